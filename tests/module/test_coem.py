import pytest
import torch

from scmetaq.module import CoemModule
from scmetaq.nn import Gaussian, ModalityShape, count_nll
from scmetaq.nn._gaussian import gaussian_kl
from scmetaq.nn._inputs import flat

SHAPES = {
    "rna": ModalityShape(20, "nb", n_components=3, n_scores=5),
    "atac": ModalityShape(25, "zip", n_components=3, n_scores=5),
}
CHANNELS = {"rna": "gated", "atac": "attention"}


def make(**kwargs):
    torch.manual_seed(0)
    module = CoemModule(SHAPES, CHANNELS, n_latent=4, n_hidden=32, n_components=3, **kwargs)
    for name, buffer in module.named_buffers():
        if name.endswith("axes"):
            buffer.normal_(std=0.05)
    return module


@pytest.fixture
def counts():
    generator = torch.Generator().manual_seed(0)
    draw = torch.poisson(torch.full((12, 45), 2.0), generator=generator)
    return {"rna": draw[:, :20], "atac": draw[:, 20:]}


def read(module, counts):
    present = {kind: torch.ones(12, 1) for kind in counts}
    return module.read(counts, present, torch.empty(12, 0))


def run(module, counts, **kwargs):
    batch = flat(read(module, counts)) | {f"{kind}_counts": x for kind, x in counts.items()}
    return module(batch, loss_kwargs=kwargs)


def test_latents_are_means_in_evaluation_and_draws_in_training(counts):
    module = make().eval()
    inputs = read(module, counts)
    found = module.inference(inputs)
    torch.testing.assert_close(found["z"], found["joint"].mean, rtol=0, atol=0)
    module.train()
    first, second = (module.inference(inputs)["z"] for _ in range(2))
    assert (first != second).all()


def test_modalities_are_read_by_their_weights(counts):
    module = make().eval()
    before = {k: part.components(read(module, counts)[k]) for k, part in module.parts.items()}
    module.set_weights({"rna": 3, "atac": 1})
    after = {k: part.components(read(module, counts)[k]) for k, part in module.parts.items()}
    torch.testing.assert_close(after["rna"], before["rna"] * 1.5**0.5)
    torch.testing.assert_close(after["atac"], before["atac"] * 0.5**0.5)


def test_each_modality_alone_does_not_know_the_other(counts):
    module = make().eval()
    other = {**counts, "atac": counts["atac"].flip(0)}
    before, after = (module.inference(read(module, c)) for c in (counts, other))
    torch.testing.assert_close(before["alone"]["rna"].mean, after["alone"]["rna"].mean)
    assert not torch.allclose(before["joint"].mean, after["joint"].mean)


def test_the_loss_is_the_bound_with_consistency(counts):
    module = make(consistency_weight=0.3).eval()
    inference, generative, loss = run(module, counts, kl_weight=0.5)
    nll = sum(
        count_nll(generative[kind], x, read(module, counts)[kind]["size_factor"]) * x.shape[1]
        for kind, x in counts.items()
    )
    zero = torch.zeros(12, 4)
    kl = gaussian_kl(inference["joint"], Gaussian(zero, zero))
    apart = sum(gaussian_kl(inference["joint"], q) for q in inference["alone"].values())
    torch.testing.assert_close(loss.loss, (nll + 0.5 * (kl + 0.3 * apart)).mean())
    torch.testing.assert_close(loss.kl_local_sum, kl.sum())
    torch.testing.assert_close(loss.reconstruction_loss_sum, nll.sum())


def test_every_parameter_learns_and_the_prior_once_it_is_fitted(counts):
    module = make()
    _, generative, loss = run(module, counts)
    assert generative["rna"].log_dispersion is not None  # likelihoods are those asked for
    assert generative["rna"].zero_logit is None
    assert generative["atac"].zero_logit is not None
    loss.loss.backward()
    assert module.prior.means.grad is None
    module.prior.set_mixture(torch.full((3,), 1 / 3), torch.randn(3, 4), torch.ones(3, 4))
    run(module, counts)[2].loss.backward()
    assert all((p.grad != 0).any() for p in module.prior.parameters())
    assert [name for name, p in module.named_parameters() if p.grad is None] == []
