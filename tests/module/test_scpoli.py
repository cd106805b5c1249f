import pytest
import torch

from scmetaq.module import SCPoliModule
from scmetaq.nn import Gaussian, ModalityShape, count_nll, prototype_loss
from scmetaq.nn._gaussian import gaussian_kl
from scmetaq.nn._inputs import flat

SHAPES = {"rna": ModalityShape(20, "nb"), "atac": ModalityShape(25, "poisson")}
CONDITIONS = torch.arange(12)[:, None] % torch.tensor([3, 2])


def make(**kwargs):
    torch.manual_seed(0)
    module = SCPoliModule(SHAPES, conditions={"donor": 3, "lane": 2}, n_latent=4, **kwargs)
    for table in module.condition_embedding.tables:
        torch.nn.init.normal_(table)
    return module


@pytest.fixture
def counts():
    generator = torch.Generator().manual_seed(0)
    draw = torch.poisson(torch.full((12, 45), 2.0), generator=generator)
    return {"rna": draw[:, :20], "atac": draw[:, 20:]}


def read(module, counts, present=None):
    there = {kind: torch.ones(12, 1) for kind in counts}
    return module.read(counts, {**there, **(present or {})}, CONDITIONS)


def run(module, counts, labels=None, **kwargs):
    batch = flat(read(module, counts)) | {"conditions": CONDITIONS.float()}
    if labels is not None:
        batch["labels"] = labels.float()
    return module(batch, loss_kwargs=kwargs)


def test_latents_are_means_in_evaluation_and_draws_in_training(counts):
    module = make(dropout=0.0).eval()
    inputs = read(module, counts)
    found = module.inference(inputs, CONDITIONS)
    torch.testing.assert_close(found["z"], found["posterior"].mean, rtol=0, atol=0)
    module.train()
    first, second = (module.inference(inputs, CONDITIONS)["z"] for _ in range(2))
    assert (first != second).all()


def test_conditions_reach_encoders_and_decoders_in_their_first_layers(counts):
    module = make().eval()
    inputs, other = read(module, counts), (CONDITIONS + 1) % torch.tensor([3, 2])
    z = module.inference(inputs, CONDITIONS)["z"]
    assert not torch.allclose(module.inference(inputs, other)["z"], z)
    before, after = (module.generative(z, c) for c in (CONDITIONS, other))
    for kind in SHAPES:
        assert not torch.allclose(before[kind].log_rate, after[kind].log_rate)
    module = make()
    n_conditions = 2 * 10
    for kind, shape in SHAPES.items():
        part = module.parts[kind]
        assert part.encoder[0].in_features == shape.n_selected + n_conditions
        assert part.decoder.hidden[0].in_features == 4 + n_conditions


def test_a_missing_modality_does_not_matter(counts):
    module = make().eval()
    gone = {"atac": torch.zeros(12, 1)}
    other = {**counts, "atac": counts["atac"].flip(0)}
    first, second = (
        module.inference(read(module, c, gone), CONDITIONS)["z"] for c in (counts, other)
    )
    torch.testing.assert_close(first, second)
    both = module.inference(read(module, counts), CONDITIONS)["z"]
    assert not torch.allclose(first, both)


def test_the_loss_is_the_bound_and_the_prototypes(counts):
    module = make().eval()
    labels = torch.arange(12)[:, None] % torch.tensor([2, 4]) - torch.tensor([0, 1])
    prototypes = [torch.randn(2, 4), torch.randn(3, 4)]
    options = {"kl_weight": 0.5, "eta": 2.0, "prototypes": prototypes}
    inference, generative, loss = run(module, counts, labels, **options)
    nll = sum(
        count_nll(generative[kind], x, x.sum(1, keepdim=True)) * x.shape[1]
        for kind, x in counts.items()
    )
    q, zero = inference["posterior"], torch.zeros(12, 4)
    kl = gaussian_kl(q, Gaussian(zero, zero))
    held = sum(prototype_loss(q.mean, labels[:, i], p) for i, p in enumerate(prototypes))
    torch.testing.assert_close(loss.loss, (nll + 0.5 * kl).mean() + 2 * held)
    torch.testing.assert_close(loss.kl_local_sum, kl.sum())
    torch.testing.assert_close(loss.reconstruction_loss_sum, nll.sum())
    torch.testing.assert_close(loss.extra_metrics["prototype_loss"], held.detach())


def test_without_prototypes_labels_do_not_matter(counts):
    module = make().eval()
    loss = run(module, counts)[2]
    torch.testing.assert_close(run(module, counts, torch.zeros(12, 1))[2].loss, loss.loss)
    assert "prototype_loss" not in loss.extra_metrics


def test_a_share_of_the_batch_is_decoded_in_training(counts):
    module = make(decoded_share=0.25)
    _, generative, loss = run(module, counts)
    assert len(generative["rna"].log_rate) == loss.n_obs_minibatch == 3
    assert len(run(module.eval(), counts)[1]["rna"].log_rate) == 12


def test_every_parameter_learns_and_conditions_are_optional(counts):
    module = make()
    run(module, counts)[2].loss.backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []
    module = SCPoliModule(SHAPES, n_latent=4)
    batch = flat(read(module, counts)) | {"conditions": torch.zeros(12, 0)}
    assert torch.isfinite(module(batch)[2].loss)
    assert not list(module.condition_embedding.parameters())


def test_what_was_not_measured_does_not_matter(counts):
    """Neither to the latent nor to the loss, whatever stands in its place."""
    shapes = {"rna": ModalityShape(20, "nb")}
    torch.manual_seed(0)
    module = SCPoliModule(shapes, n_latent=4).eval()
    part = module.parts["rna"]
    part.coverage.set_rate(torch.ones(20))
    part.coverage.set_missing(torch.arange(20) < 5)
    none, there = torch.zeros(12, 0), {"rna": torch.ones(12, 1)}
    lacking = counts["rna"].clone()
    lacking[:, :5] = 0
    inputs = module.read({"rna": lacking}, there, none)
    torch.testing.assert_close(
        inputs["rna"]["size_factor"], lacking.sum(1, keepdim=True) / 1e4 / 0.75
    )
    losses = []
    for bias in (0.0, 3.0):
        with torch.no_grad():
            part.decoder.logits.bias[:5] = bias
        losses.append(module(flat(inputs) | {"conditions": none})[2].loss)
    torch.testing.assert_close(*losses)
