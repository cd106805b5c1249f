import copy

import numpy as np
import pytest
import torch
from scvi import REGISTRY_KEYS

from scmetaq.module import MetaQModule
from scmetaq.nn import CountBatch, CountDecoder, reconstruction_nll

G, M, K, D = 30, 20, 6, 4


def make(*, norm="layer", fitted=True, **kwargs):
    torch.manual_seed(0)
    options = {"n_latent": D, "n_components": 3, "n_scores": 5, "norm": norm, **kwargs}
    module = MetaQModule(M, K, **options)
    module.feature_scaling.features.copy_(torch.arange(G - M, G))
    for buffer in (name for name, _ in module.named_buffers() if name.endswith("axes")):
        module.get_buffer(buffer).normal_(std=0.05)
    if fitted:
        module.codebook.set_codes(torch.randn(K, module.codebook.codes.shape[1]))
    return module


@pytest.fixture
def counts():
    generator = torch.Generator().manual_seed(0)
    return torch.poisson(torch.full((12, G), 2.0), generator=generator)


def encode(module, counts):
    """Latents of raw counts of all features."""
    return module.inference(**module.read(counts))


def run(module, counts, state=None, **kwargs):
    """All outputs of one pass over a batch of the training set: inference, generative, loss."""
    batch = {REGISTRY_KEYS.X_KEY: counts[:, G - M :], **module.read(counts)}
    if state is not None:
        batch["denoised_state"] = state
    return module(batch, loss_kwargs=kwargs)


def test_latent_is_the_state_beside_the_profile(counts):
    module = make()
    encoded = encode(module, counts)
    torch.testing.assert_close(encoded["size_factor"], counts.sum(1, keepdim=True) / 1e4)
    scores, profile = module.linear_path(CountBatch(counts))
    state = module.encoder(scores * np.sqrt(10)) + module.linear_path.to_state(scores)
    torch.testing.assert_close(encoded["state"], state)
    expected = torch.cat([state, profile], 1)
    torch.testing.assert_close(encoded["z"], expected)
    assert encoded["z"].shape == (12, D + 3)


def test_without_components_the_latent_is_the_network_alone(counts):
    module = make(n_components=0)
    encoded = encode(module, counts)
    assert module.linear_path is None
    scaled = module.feature_scaling(counts[:, G - M :], encoded["size_factor"])
    torch.testing.assert_close(encoded["z"], module.encoder(scaled))


def test_a_residual_encoder_starts_at_its_linear_part(counts):
    module = make()
    encoded = encode(module, counts)
    torch.testing.assert_close(
        encoded["state"], module.linear_path.to_state(module.read(counts)["scores"])
    )


def test_library_size_is_that_of_all_features(counts):
    module, more = make(), counts.clone()
    more[:, 0] += 1_000  # not among the selected ones
    assert not torch.allclose(encode(module, counts)["z"], encode(module, more)["z"])


def test_codes_are_decoded_once_they_are_fitted(counts):
    latents = encode(make(), counts)["z"]
    assert set(make(fitted=False).generative(latents)) == {"plain"}
    assert set(make().generative(latents)) == {"plain", "assignment", "z_q", "quantized"}


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("likelihood", ["nb", "poisson"])
def test_decoding_distinct_codes_equals_decoding_every_cell(counts, norm, likelihood):
    module = make(norm=norm, likelihood=likelihood).eval()
    decoded = module.generative(encode(module, counts)["z"])
    assignment = decoded["assignment"]
    assert torch.equal(decoded["z_q"], module.codebook.codes[assignment])
    expected = module.quantized_decoder(module.codebook.codes[assignment])
    for found, wanted in zip(decoded["quantized"], expected, strict=True):
        if likelihood == "poisson" and wanted is None:
            assert found is None
        else:
            torch.testing.assert_close(found, wanted)


def test_batch_statistics_are_those_of_cells(counts):
    """With batch normalisation a code counts as often as it has cells."""
    module = make(norm="batch").train()
    z = encode(module, counts)["z"]
    other = copy.deepcopy(module)
    module.generative(z)
    other.quantized_decoder(other.codebook.embed(other.codebook(z).assignment))
    found, expected = (m.quantized_decoder.trunk[1].running_mean for m in (module, other))
    torch.testing.assert_close(found, expected)


def gradients(module, counts):
    module.zero_grad()
    run(module, counts)[2].loss.backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def test_codes_learn_from_the_quantized_part_and_the_encoder_does_not(counts):
    """As published: the assignment is hard and the latent is held for the codes."""
    fitted, plain = make(), make(fitted=False)
    plain.load_state_dict({**fitted.state_dict(), "codebook.fitted": torch.tensor(False)})
    of_both, of_plain = gradients(fitted, counts), gradients(plain, counts)
    assert of_both["codebook.codes"].abs().sum() > 0
    assert any(name.startswith("quantized_decoder") for name in of_both)
    assert "codebook.codes" not in of_plain
    assert not any(name.startswith("quantized_decoder") for name in of_plain)
    shared = [name for name in of_plain if name.startswith(("encoder", "decoder"))]
    assert shared
    for name in shared:
        torch.testing.assert_close(of_both[name], of_plain[name])


def test_frozen_parts_get_no_gradient(counts):
    assert not any("linear_path" in name for name in gradients(make(), counts))


def test_loss_is_the_sum_of_its_parts(counts):
    module = make().eval()
    _, decoded, out = run(module, counts)
    selected = counts[:, G - M :]
    factor = counts.sum(1, keepdim=True) / 1e4
    plain, quantized = (
        reconstruction_nll(decoded[name], selected, factor) for name in ("plain", "quantized")
    )
    held = (encode(module, counts)["z"] - decoded["z_q"]).square().mean()
    torch.testing.assert_close(out.loss, plain.mean() + quantized.mean() + held)
    torch.testing.assert_close(out.reconstruction_loss_sum, plain.sum())
    assert set(out.extra_metrics) == {"quantized_loss", "codebook_loss"}
    torch.testing.assert_close(out.extra_metrics["codebook_loss"], held)
    assert out.n_obs_minibatch == 12


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("training", [True, False])
def test_state_loss_pulls_the_state_to_the_denoised_one(counts, weight, training):
    module = make().train(training)
    without = run(module, counts)[2].loss
    target = torch.randn(12, D)
    out = run(module, counts, target, state_weight=weight)[2]
    expected = (encode(module, counts)["state"] - target).square().sum(1).mean()
    torch.testing.assert_close(out.extra_metrics["state_loss"], expected.detach())
    torch.testing.assert_close(out.loss, without + weight * expected)


@pytest.mark.parametrize("n_components", [0, 3])
def test_sparse_counts_are_read_as_dense_ones(counts, n_components):
    module = make(n_components=n_components)
    found, expected = module.read(counts.to_sparse_csr()), module.read(counts)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


def test_a_part_of_the_batch_is_decoded_in_training_only(counts):
    module = make(decoded_share=0.25)
    z = encode(module, counts)["z"]
    for mode, n_decoded in ((True, 3), (False, 12)):
        decoded = module.train(mode).generative(z)
        assert len(decoded["plain"].log_rate) == len(decoded["quantized"].log_rate) == n_decoded
        assert len(decoded["assignment"]) == 12
    alone = run(module.train(), counts[:1])[2]
    assert torch.isfinite(alone.loss)


def test_a_pass_changes_nothing(counts):
    for mode in (True, False):
        module = make().train(mode)
        before = copy.deepcopy(module.state_dict())
        run(module, counts)
        after = module.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_copying_the_decoder(counts):
    module = make()
    z = encode(module, counts)["z"]
    assert not torch.allclose(module.decoder(z).log_rate, module.quantized_decoder(z).log_rate)
    module.copy_decoder()
    assert torch.equal(module.decoder(z).log_rate, module.quantized_decoder(z).log_rate)
    with torch.no_grad():
        module.decoder.log_rate.bias.add_(1)
    assert not torch.equal(module.decoder(z).log_rate, module.quantized_decoder(z).log_rate)


def test_a_cell_without_counts_is_finite():
    _, _, out = run(make(), torch.zeros(2, G))
    assert torch.isfinite(out.loss)


def test_sampling_is_refused():
    with pytest.raises(NotImplementedError, match="quantises cells"):
        make().sample()


def test_the_two_decoders_are_apart():
    module = make()
    assert isinstance(module.quantized_decoder, CountDecoder)
    shared = {id(p) for p in module.decoder.parameters()}
    assert shared.isdisjoint(id(p) for p in module.quantized_decoder.parameters())
