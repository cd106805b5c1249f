import copy

import numpy as np
import pytest
import torch

from scmetaq.module import MetaQModule
from scmetaq.nn import CountBatch, ModalityShape, count_nll
from scmetaq.nn._inputs import flat
from scmetaq.nn._mixture_correction import one_hot

G, M, K, D = 30, 20, 6, 4


def part_of(module):
    return module.parts["rna"]


def make(shapes=None, *, fitted=True, norm="layer", **kwargs):
    """A module of 30 genes, 20 of them selected, with random axes and codes."""
    torch.manual_seed(0)
    shape = {key: kwargs.pop(key) for key in ("n_components", "likelihood") if key in kwargs}
    options = {"n_components": 3, "n_scores": 5, **shape}
    shapes = {"rna": ModalityShape(M, **options), **(shapes or {})}
    module = MetaQModule(shapes, K, n_latent=D, norm=norm, **kwargs)
    part_of(module).feature_scaling.features.copy_(torch.arange(G - M, G))
    for name, buffer in module.named_buffers():
        if name.endswith(("axes", "directions", "coefficients")):
            buffer.normal_(std=0.05)
    if fitted:
        module.codebook.set_codes(torch.randn(K, module.codebook.codes.shape[1]))
    return module


@pytest.fixture
def counts():
    generator = torch.Generator().manual_seed(0)
    return torch.poisson(torch.full((12, G), 2.0), generator=generator)


def none(cells):
    """No condition of any cell."""
    return torch.zeros(len(cells), 0, dtype=torch.long)


def decode(module, z):
    return module.generative(z, none(z))


def read(module, counts):
    return module.read({"rna": counts}, {"rna": torch.ones(len(counts), 1)}, none(counts))


def encode(module, counts):
    """Latents of raw counts of all features."""
    return module.inference(read(module, counts), none(counts))


def run(module, counts):
    """All outputs of one pass over a batch of the training set: inference, generative, loss."""
    batch = flat(read(module, counts)) | {"rna_counts": counts[:, G - M :]}
    batch["conditions"] = none(counts)
    return module(batch)


def test_latent_is_the_state_and_the_profile_or_without_components_that_of_the_network(counts):
    module = make()
    encoded = encode(module, counts)
    size_factor = read(module, counts)["rna"]["size_factor"]
    torch.testing.assert_close(size_factor, counts.sum(1, keepdim=True) / 1e4)
    part = part_of(module)
    scores, profile = part.linear_path(CountBatch(counts))
    expected = torch.cat([part.encoder(scores * np.sqrt(10)), profile], 1)
    torch.testing.assert_close(encoded["z"], expected)
    assert encoded["z"].shape == (12, D + 3)
    module = make(n_components=0)
    part = part_of(module)
    assert part.linear_path is None
    size_factor = counts.sum(1, keepdim=True) / 1e4
    scaled = part.feature_scaling(counts[:, G - M :], size_factor)
    torch.testing.assert_close(encode(module, counts)["z"], part.encoder(scaled))


def test_library_size_is_that_of_all_features(counts):
    module, more = make(), counts.clone()
    more[:, 0] += 1_000  # not among the selected ones
    assert not torch.allclose(encode(module, counts)["z"], encode(module, more)["z"])


def test_codes_are_decoded_once_they_are_fitted(counts):
    latents = encode(make(), counts)["z"]
    assert set(decode(make(fitted=False), latents)) == {"plain"}
    assert set(decode(make(), latents)) == {"plain", "assignment", "z_q", "quantized"}


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("likelihood", ["nb", "poisson"])
@pytest.mark.parametrize("make_module", ["make", "make_conditioned"])
def test_decoding_distinct_codes_equals_decoding_every_cell(
    counts, conditions, norm, likelihood, make_module
):
    module = globals()[make_module](norm=norm, likelihood=likelihood).eval()
    conditions = conditions if module.condition_embedding.n_dims else none(counts)
    _, z = run_conditioned(module, counts, conditions)
    decoded = module.generative(z, conditions)
    assert torch.equal(decoded["z_q"], module.codebook.codes[decoded["assignment"]])
    whole = torch.cat([decoded["z_q"], module.condition_embedding(conditions)], 1)
    expected = part_of(module).quantized_decoder(whole)
    for found, wanted in zip(decoded["quantized"]["rna"], expected, strict=True):
        assert (found is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(found, wanted)


def test_batch_statistics_are_those_of_cells(counts):
    """With batch normalisation a code counts as often as it has cells."""
    module = make(norm="batch").train()
    z = encode(module, counts)["z"]
    other = copy.deepcopy(module)
    decode(module, z)
    part_of(other).quantized_decoder(other.codebook.embed(other.codebook(z).assignment))
    found, expected = (part_of(m).quantized_decoder.trunk[1].running_mean for m in (module, other))
    torch.testing.assert_close(found, expected)


def gradients(module, counts):
    module.zero_grad()
    run(module, counts)[2].loss.backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def test_codes_learn_from_the_quantized_part_and_the_encoder_does_not(counts):
    """As published: the assignment is hard and the latent is held for the codes."""
    fitted, plain = make(n_components=0), make(fitted=False, n_components=0)
    plain.load_state_dict({**fitted.state_dict(), "codebook.fitted": torch.tensor(False)})
    of_both, of_plain = gradients(fitted, counts), gradients(plain, counts)
    assert of_both["codebook.codes"].abs().sum() > 0
    assert any("quantized_decoder" in name for name in of_both)
    assert "codebook.codes" not in of_plain
    assert not any("quantized_decoder" in name for name in of_plain)
    shared = [name for name in of_plain if ".encoder." in name or ".decoder." in name]
    assert shared
    for name in shared:
        torch.testing.assert_close(of_both[name], of_plain[name])


def test_loss_is_the_sum_of_its_parts(counts):
    module = make().eval()
    _, decoded, out = run(module, counts)
    selected = counts[:, G - M :]
    factor = counts.sum(1, keepdim=True) / 1e4
    plain, quantized = (
        count_nll(decoded[name]["rna"], selected, factor) for name in ("plain", "quantized")
    )
    held = (encode(module, counts)["z"] - decoded["z_q"]).square().mean()
    torch.testing.assert_close(out.loss, plain.mean() + quantized.mean() + held)
    torch.testing.assert_close(out.reconstruction_loss_sum, plain.sum())
    assert set(out.extra_metrics) == {"quantized_loss", "codebook_loss"}
    torch.testing.assert_close(out.extra_metrics["codebook_loss"], held)
    assert out.n_obs_minibatch == 12


@pytest.mark.parametrize("n_components", [0, 3])
def test_sparse_counts_are_read_as_dense_ones(counts, n_components):
    module = make(n_components=n_components)
    found, expected = (read(module, c)["rna"] for c in (counts.to_sparse_csr(), counts))
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


def test_losses_of_one_cell_and_of_cells_without_counts_are_finite(counts):
    for cells in (counts[:1], torch.zeros(2, G)):
        assert torch.isfinite(run(make().train(), cells)[2].loss)


def test_a_pass_changes_nothing(counts):
    for mode in (True, False):
        module = make().train(mode)
        before = copy.deepcopy(module.state_dict())
        run(module, counts)
        after = module.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)


def make_two(weights=None, n_components=3):
    """The same with 12 peaks, of which 8 are selected, and random maps between both."""
    peaks = ModalityShape(8, "poisson", (), n_components=n_components, n_scores=5)
    return make({"atac": peaks}, weights=weights, n_components=n_components)


@pytest.fixture
def peaks():
    return torch.poisson(torch.full((12, 12), 1.0), generator=torch.Generator().manual_seed(1))


def read_two(module, counts, peaks, with_peaks=None):
    n = len(counts)
    with_peaks = torch.ones(n, 1) if with_peaks is None else with_peaks
    present = {"rna": torch.ones(n, 1), "atac": with_peaks}
    return module.read({"rna": counts, "atac": peaks}, present, none(counts))


def encode_two(module, counts, peaks):
    return module.inference(read_two(module, counts, peaks), none(counts))


def run_two(module, counts, peaks, with_peaks):
    batch = flat(read_two(module, counts, peaks, with_peaks)) | {"conditions": none(counts)}
    return module(batch | {"rna_counts": counts[:, G - M :], "atac_counts": peaks[:, :8]})


def without_five():
    """Which of the cells have peaks: all but the first five."""
    return (torch.arange(12) >= 5).float()[:, None]


def test_blocks_of_modalities_are_concatenated(counts, peaks):
    module = make_two()
    z = encode_two(module, counts, peaks)["z"]
    for name, values, columns in (("rna", counts, slice(0, 7)), ("atac", peaks, slice(7, 14))):
        part = module.parts[name]
        known = part.read(values)
        scores = [
            module.parts[m].read(of)["scores"] for m, of in (("rna", counts), ("atac", peaks))
        ]
        state = part.encoder(torch.cat(scores, 1) * 10**0.5)
        block = torch.cat([state, known["profile"]], 1) * 0.5**0.5
        torch.testing.assert_close(z[:, columns], block)
    assert z.shape == (12, 14)


@pytest.mark.parametrize("weights", [{"rna": 1, "atac": 3}, {"rna": 10, "atac": 30}])
def test_weights_are_shares_of_squared_distances(counts, peaks, weights):
    equal, weighted = make_two(), make_two(weights)
    a, b = (encode_two(m, counts, peaks)["z"] for m in (equal, weighted))
    torch.testing.assert_close(b[:, :7].square(), a[:, :7].square() * 0.25 / 0.5)
    torch.testing.assert_close(b[:, 7:].square(), a[:, 7:].square() * 0.75 / 0.5)


def test_the_code_as_a_whole_is_decoded_to_every_modality(counts, peaks):
    """Paper Eq. 19; the decoders of cells read their own block."""
    module = make_two()
    z = encode_two(module, counts, peaks)["z"]
    changed = z.clone()
    changed[:, 7:] += 1
    for name, same in (("rna", True), ("atac", False)):
        before, after = (decode(module, v)["plain"][name].log_rate for v in (z, changed))
        assert torch.equal(before, after) == same
        part = module.parts[name]
        before, after = (part.quantized_decoder(v).log_rate for v in (z, changed))
        assert not torch.equal(before, after)


def test_decoders_of_codes_start_as_copies_of_those_of_cells(counts, peaks):
    module = make_two()
    z, part = encode_two(module, counts, peaks)["z"], part_of(module)
    plain = decode(module, z)["plain"]
    assert not torch.allclose(plain["rna"].log_rate, part.quantized_decoder(z).log_rate)
    for of_name in module.parts.values():
        of_name.copy_decoder()
    for name, of_name in module.parts.items():
        found = of_name.quantized_decoder(z)
        torch.testing.assert_close(found.log_rate, plain[name].log_rate)
    with torch.no_grad():
        part.decoder.log_rate.bias.add_(1)
    changed = decode(module, z)["plain"]["rna"].log_rate
    assert not torch.allclose(changed, part.quantized_decoder(z).log_rate)


def test_a_missing_modality_is_predicted_from_the_other_and_says_nothing(counts, peaks):
    module = make_two()
    full, gappy = read_two(module, counts, peaks), read_two(module, counts, peaks, without_five())
    impute = module.imputation.maps["rna_to_atac"]
    expected = impute(full["rna"]["scores"])
    torch.testing.assert_close(gappy["atac"]["scores"][:5], expected[:5, :10])
    torch.testing.assert_close(gappy["atac"]["profile"][:5], expected[:5, 10:])
    for name in ("scores", "profile"):
        assert torch.equal(gappy["atac"][name][5:], full["atac"][name][5:])
        assert torch.equal(gappy["rna"][name], full["rna"][name])
    # Counts in the place of a missing modality change no latent and no loss
    other = peaks.clone()
    other[:5] += 3
    outputs = []
    for values in (peaks, other):
        inferred, _, loss = run_two(make_two(), counts, values, without_five())
        outputs.append((inferred["z"], loss.loss))
    for a, b in zip(*outputs, strict=True):
        torch.testing.assert_close(a, b)


def test_losses_of_modalities_are_means_over_their_cells(counts, peaks):
    module = make_two().eval()
    _, decoded, out = run_two(module, counts, peaks, without_five())
    of_rna, of_peaks = (
        count_nll(decoded["plain"][name], selected, x.sum(1, keepdim=True) / 1e4)
        for name, x, selected in (
            ("rna", counts, counts[:, G - M :]),
            ("atac", peaks, peaks[:, :8]),
        )
    )
    of_peaks = of_peaks[5:]
    found = out.extra_metrics
    torch.testing.assert_close(found["reconstruction_loss_rna"], of_rna.mean())
    torch.testing.assert_close(found["reconstruction_loss_atac"], of_peaks.mean())
    expected = of_rna.mean() + of_peaks.mean()
    expected = expected + found["quantized_loss"] + found["codebook_loss"]
    torch.testing.assert_close(out.loss, expected)


def test_encoders_read_all_modalities_and_as_published_missing_ones_are_left_out(counts, peaks):
    module = make_two()
    blocks = [encode_two(module, counts, x)["z"][:, :D] for x in (peaks, peaks + 1)]
    assert not torch.allclose(*blocks)
    module = make_two(n_components=0)
    present = torch.zeros(12, 1)
    z = module.inference(read_two(module, counts, peaks, present), none(counts))["z"]
    assert (z[:, D:] == 0).all()
    assert (z[:, :D] != 0).any()


def make_conditioned(**kwargs):
    """A module with two conditions, of three and two categories, as after training."""
    module = make(conditions={"donor": 3, "lane": 2}, **kwargs)
    with torch.no_grad():  # before it all conditions have the same embedding
        for table in module.condition_embedding.tables:
            table.normal_(std=0.1)
    return module


@pytest.fixture
def conditions():
    return torch.stack([torch.arange(12) % 3, torch.arange(12) % 2], 1)


def run_conditioned(module, counts, conditions):
    inputs = module.read({"rna": counts}, {"rna": torch.ones(len(counts), 1)}, conditions)
    return inputs, module.inference(inputs, conditions)["z"]


def test_conditions_are_inputs_of_the_first_layers_and_embeddings_learn(counts, conditions):
    module = make_conditioned()
    part = part_of(module)
    for decoder in (part.decoder, part.quantized_decoder):
        assert decoder.trunk[0].in_features == D + 3 + 20
    network = make(n_components=0, conditions={"donor": 3, "lane": 2}).parts["rna"].encoder
    assert network.hidden[0].in_features == M + 20
    _, z = run_conditioned(module, counts, conditions)
    other = conditions.clone()
    other[:, 0] = (other[:, 0] + 1) % 3
    rates = [module.generative(z, c)["plain"]["rna"].log_rate for c in (conditions, other)]
    assert (rates[0] != rates[1]).any(1).all()
    inputs, _ = run_conditioned(module, counts, conditions)
    batch = flat(inputs) | {"rna_counts": counts[:, G - M :], "conditions": conditions.float()}
    module(batch)[2].loss.backward()
    assert all((table.grad != 0).any() for table in module.condition_embedding.tables)


def test_effects_of_conditions_are_subtracted_and_decoders_know_them(counts, conditions):
    module = make_conditioned()
    before, _ = run_conditioned(module, counts, conditions)
    offsets = torch.randn_like(module.correction.offsets[:1])
    module.correction.offsets.copy_(offsets)  # the same in every cluster
    after, _ = run_conditioned(module, counts, conditions)
    added = one_hot(conditions, [3, 2]) @ offsets[0]
    found = module.linear_values(before) - module.linear_values(after)
    torch.testing.assert_close(found, added, atol=1e-5, rtol=1e-4)
    module = make_conditioned()
    for part in module.parts.values():
        part.copy_decoder()
    _, z = run_conditioned(module, counts, conditions)
    whole = torch.cat([z, module.condition_embedding(conditions)], 1)
    part = part_of(module)
    torch.testing.assert_close(part.quantized_decoder(whole).log_rate, part.decoder(whole).log_rate)
