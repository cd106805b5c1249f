import pytest
import torch
from scvi.distributions import NegativeBinomial

from scmetaq.nn import CountDecoder, CountParameters, reconstruction_nll
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
    decoded = CountDecoder(4, 11, likelihood=likelihood)(z)._asdict()
    assert {name for name, values in decoded.items() if values is not None} == names
    assert all(decoded[name].shape == (8, 11) for name in names)


def test_without_hidden_layers_it_is_linear(z):
    decoder = CountDecoder(4, 11, likelihood="poisson", hidden=())
    expected = z @ decoder.log_rate.weight.T + decoder.log_rate.bias
    torch.testing.assert_close(decoder(z).log_rate, expected)


def test_the_dispersion_is_bounded(z):
    low, high = LOG_DISPERSION_RANGE
    dispersion = CountDecoder(4, 11, hidden=())(1e6 * z).log_dispersion
    assert dispersion.min().item() == pytest.approx(low)
    assert dispersion.max().item() == pytest.approx(high)


def test_layer_norm_decodes_each_cell_by_itself(z):
    decoder = CountDecoder(4, 11).train()
    torch.testing.assert_close(decoder(z).log_rate[:1], decoder(z[:1]).log_rate)


@pytest.mark.parametrize("likelihood", ["nb", "poisson", "zip"])
def test_decoding_distinct_codes_equals_decoding_every_cell(z, likelihood):
    decoder, rows = CountDecoder(4, 11, likelihood=likelihood), torch.tensor([2, 0, 2, 5, 0])
    by_code, by_cell = decoder(z).take(rows), decoder(z[rows])
    for code_wise, cell_wise in zip(by_code, by_cell, strict=True):
        assert (code_wise is None) == (cell_wise is None)
        if cell_wise is not None:
            torch.testing.assert_close(code_wise, cell_wise)


def test_excess_zeros_start_rare_and_count_in_the_likelihood(z):
    decoder = CountDecoder(4, 11, likelihood="zip")
    decoded = decoder(0 * z)
    assert (torch.sigmoid(decoded.zero_logit) < 0.2).all()
    counts, factor = torch.ones(8, 11), torch.ones(8, 1)
    found = reconstruction_nll(decoded, counts, factor)
    plain = reconstruction_nll(CountParameters(decoded.log_rate, None), counts, factor)
    excess = torch.nn.functional.softplus(decoded.zero_logit).mean(1)  # -log(1 - p)
    torch.testing.assert_close(found, plain + excess)


def test_starts_at_the_average_profile():
    rate = torch.tensor([1e-9, 0.5, 30.0])
    decoder = CountDecoder(4, 3)
    decoder.start_at(rate)
    torch.testing.assert_close(decoder.log_rate.bias.exp(), torch.tensor([1e-4, 0.5, 30.0]))


def test_likelihood_is_that_of_scvi_tools_at_the_scaled_mean(z):
    generator = torch.Generator().manual_seed(1)
    counts = torch.poisson(torch.full((8, 11), 2.0), generator=generator).double()
    size_factor = torch.rand(8, 1, generator=generator).double() + 0.1
    decoded = CountDecoder(4, 11).double()(z.double())
    found = reconstruction_nll(decoded, counts, size_factor)
    mean, dispersion = size_factor * decoded.log_rate.exp(), decoded.log_dispersion.exp()
    expected = -NegativeBinomial(mu=mean, theta=dispersion).log_prob(counts).mean(1)
    assert found.shape == (8,)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_without_dispersion_it_is_the_poisson():
    counts, size_factor = torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0]])
    log_rate = torch.tensor([[0.3, -0.4]])
    found = reconstruction_nll(CountParameters(log_rate, None), counts, size_factor)
    poisson = torch.distributions.Poisson(2 * log_rate.exp())
    torch.testing.assert_close(found, -poisson.log_prob(counts).mean(1))


def test_absurd_rates_stay_finite():
    counts, size_factor = torch.tensor([[0.0, 1e6]]), torch.tensor([[1.0]])
    for rate in (-1e4, 1e4):
        parameters = CountParameters(torch.full((1, 2), rate), torch.zeros(1, 2))
        assert torch.isfinite(reconstruction_nll(parameters, counts, size_factor)).all()


@pytest.mark.parametrize("hidden", [(), (7, 5)])
@pytest.mark.parametrize("likelihood", ["nb", "poisson"])
def test_starting_as_a_decoder_of_some_columns(hidden, likelihood):
    torch.manual_seed(0)
    narrow, wide = (CountDecoder(n, 9, likelihood=likelihood, hidden=hidden) for n in (3, 8))
    wide.start_as(narrow, [2, 3, 7])
    z = torch.randn(6, 8)
    for found, expected in zip(wide(z), narrow(z[:, [2, 3, 7]]), strict=True):
        if expected is None:
            assert found is None
        else:
            torch.testing.assert_close(found, expected)
