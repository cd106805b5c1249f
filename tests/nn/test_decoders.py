import numpy as np
import pytest
import torch
from scipy import sparse

from scmetaq.data._groups import group_counts
from scmetaq.nn import count_nll
from scmetaq.nn._decoders import CountDecoder, ProfileDecoder
from scmetaq.nn._likelihoods import LOG_DISPERSION_RANGE


@pytest.fixture
def z():
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("likelihood", "names"),
    [
        ("nb", {"log_rate", "log_dispersion"}),
        ("poisson", {"log_rate"}),
        ("zip", {"log_rate", "zero_logit"}),
    ],
)
def test_parameters_per_cell_and_feature(z, likelihood, names):
    found = CountDecoder(4, 11, likelihood=likelihood)(z)
    decoded = {name: values for name, values in found._asdict().items() if values is not None}
    assert decoded.keys() == names
    assert all(values.shape == (8, 11) for values in decoded.values())
    assert found.likelihood == likelihood


def test_without_hidden_layers_it_is_linear_and_each_cell_is_decoded_by_itself(z):
    decoder = CountDecoder(4, 11, likelihood="poisson", hidden=())
    expected = z @ decoder.log_rate.weight.T + decoder.log_rate.bias
    torch.testing.assert_close(decoder(z).log_rate, expected)
    decoder = CountDecoder(4, 11).train()
    torch.testing.assert_close(decoder(z).log_rate[:1], decoder(z[:1]).log_rate)


def test_the_dispersion_is_bounded_and_excess_zeros_start_rare(z):
    low, high = LOG_DISPERSION_RANGE
    dispersion = CountDecoder(4, 11, hidden=())(1e6 * z).log_dispersion
    assert dispersion.min().item() == pytest.approx(low)
    assert dispersion.max().item() == pytest.approx(high)
    decoded = CountDecoder(4, 11, likelihood="zip")(0 * z)
    assert (torch.sigmoid(decoded.zero_logit) < 0.2).all()


def test_decoders_start_at_the_average_profile():
    rate = torch.tensor([1e-9, 0.5, 30.0])
    decoder = CountDecoder(4, 3)
    decoder.start_at(rate)
    torch.testing.assert_close(decoder.log_rate.bias.exp(), torch.tensor([1e-4, 0.5, 30.0]))
    decoder, rate = profile_decoder(), torch.rand(20) + 0.1
    decoder.start_at(rate)
    torch.nn.init.zeros_(decoder.logits.weight)
    decoded = decoder(torch.randn(6, 4), torch.randn(6, 3))
    torch.testing.assert_close(decoded.log_rate[0].exp(), rate / rate.sum())


@pytest.mark.parametrize("hidden", [(), (64,)])
def test_decoders_start_at_the_rates_and_the_dispersion_of_groups(hidden):
    """Counts of 30 groups, log rates linear in latents far from zero, inverse dispersion 2."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(30, 4)) * 0.3
    rate = np.exp(z @ rng.normal(size=(4, 12)) + 1)
    group, size = np.repeat(np.arange(30), 60), rng.uniform(0.5, 2, 1_800)
    counts = rng.poisson(rng.gamma(2, rate[group] / 2) * size[:, None])
    one = sparse.csr_array((np.ones(1_800), (group, np.arange(1_800))))
    torch.manual_seed(0)
    decoder, latents = CountDecoder(4, 12, hidden=hidden), torch.from_numpy(z + 1).float()
    decoder.start_from(latents, group_counts(one, sparse.csr_matrix(counts), size))
    decoded = decoder(latents)
    found, truth = decoded.log_rate.detach().numpy(), np.log(rate)
    assert np.corrcoef((found - found.mean(0)).ravel(), (truth - truth.mean(0)).ravel())[0, 1] > 0.9
    np.testing.assert_allclose(found.mean(0), truth.mean(0), atol=0.2)
    inverse = decoded.log_dispersion.detach().exp().numpy()
    assert (inverse == inverse[0]).all()
    assert 1.5 < np.median(inverse) < 2.5


@pytest.mark.parametrize("hidden", [(), (7, 5)])
@pytest.mark.parametrize("likelihood", ["nb", "poisson"])
def test_starting_as_a_decoder_of_some_columns(hidden, likelihood):
    torch.manual_seed(0)
    narrow, wide = (CountDecoder(n, 9, likelihood=likelihood, hidden=hidden) for n in (3, 8))
    wide.start_as(narrow, [2, 3, 7])
    z = torch.randn(6, 8)
    for found, expected in zip(wide(z)[:2], narrow(z[:, [2, 3, 7]])[:2], strict=True):
        assert (found is None) == (expected is None)
        if expected is not None:
            torch.testing.assert_close(found, expected)


def profile_decoder(likelihood="nb", n_conditions=3):
    torch.manual_seed(0)
    return ProfileDecoder(4, n_conditions, 20, likelihood=likelihood, n_hidden=5)


def test_profile_rates_are_shares_of_the_library():
    decoder, z, condition = profile_decoder(), torch.randn(6, 4), torch.randn(6, 3)
    torch.testing.assert_close(decoder(z, condition).log_rate.exp().sum(1), torch.ones(6))
    measured = decoder(z, condition, torch.arange(20) < 5).log_rate.exp()
    assert (measured[:, :5] == 0).all()
    torch.testing.assert_close(measured.sum(1), torch.ones(6))


def test_the_profile_dispersion_is_one_of_the_condition_and_not_of_the_cell():
    decoder = profile_decoder()
    torch.nn.init.normal_(decoder.dispersion_of_condition.weight)
    condition = torch.randn(2, 3)[[0, 0, 1]]
    r = decoder(torch.randn(3, 4), condition).log_dispersion
    torch.testing.assert_close(r[0], r[1])
    assert (r[0] != r[2]).all()
    torch.testing.assert_close(decoder(torch.randn(3, 4), condition).log_dispersion, r)
    poisson = profile_decoder("poisson", n_conditions=0)(torch.randn(6, 4), torch.zeros(6, 0))
    assert poisson.log_dispersion is None


@pytest.mark.parametrize("is_missing", [None, torch.arange(20) < 5])
def test_every_parameter_of_measured_features_learns(is_missing):
    decoder, counts = profile_decoder(), torch.poisson(torch.full((6, 20), 2.0))
    decoded = decoder(torch.randn(6, 4), torch.randn(6, 3), is_missing)
    library = counts.sum(1, keepdim=True)
    count_nll(decoded, counts, library, is_missing=is_missing).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in decoder.parameters())
    assert all((p.grad != 0).any() for p in decoder.parameters())
    learnt = decoder.logits.bias.grad != 0
    assert torch.equal(
        learnt, torch.ones(20, dtype=torch.bool) if is_missing is None else ~is_missing
    )
