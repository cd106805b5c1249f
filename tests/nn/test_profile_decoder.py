import pytest
import torch

from scmetaq.nn import ProfileDecoder, reconstruction_nll


def make(likelihood="nb", n_conditions=3):
    torch.manual_seed(0)
    return ProfileDecoder(4, n_conditions, 20, likelihood=likelihood, n_hidden=5)


def test_rates_are_shares_of_the_library():
    decoded = make()(torch.randn(6, 4), torch.randn(6, 3))
    torch.testing.assert_close(decoded.log_rate.exp().sum(1), torch.ones(6))


def test_the_dispersion_is_one_of_the_condition_and_not_of_the_cell():
    decoder = make()
    torch.nn.init.normal_(decoder.dispersion_of_condition.weight)
    condition = torch.randn(2, 3)[[0, 0, 1]]
    r = decoder(torch.randn(3, 4), condition).log_dispersion
    torch.testing.assert_close(r[0], r[1])
    assert (r[0] != r[2]).all()
    torch.testing.assert_close(decoder(torch.randn(3, 4), condition).log_dispersion, r)


@pytest.mark.parametrize("likelihood", ["nb", "poisson"])
def test_without_conditions_and_by_other_libraries(likelihood):
    """The Poisson and the negative binomial of torch say the same."""
    decoder = make(likelihood, n_conditions=0)
    counts = torch.poisson(torch.full((6, 20), 2.0))
    decoded = decoder(torch.randn(6, 4), torch.zeros(6, 0))
    library = counts.sum(1, keepdim=True)
    mean = library * decoded.log_rate.exp()
    if likelihood == "poisson":
        assert decoded.log_dispersion is None
        expected = torch.distributions.Poisson(mean)
    else:
        r = decoded.log_dispersion.exp()
        expected = torch.distributions.NegativeBinomial(r, logits=mean.log() - r.log())
    torch.testing.assert_close(
        reconstruction_nll(decoded, counts, library), -expected.log_prob(counts).mean(1)
    )


def test_it_starts_at_the_average_profile():
    decoder = make()
    rate = torch.rand(20) + 0.1
    decoder.start_at(rate)
    torch.nn.init.zeros_(decoder.logits.weight)
    decoded = decoder(torch.randn(6, 4), torch.randn(6, 3))
    torch.testing.assert_close(decoded.log_rate[0].exp(), rate / rate.sum())


def test_every_parameter_learns():
    decoder = make()
    counts = torch.poisson(torch.full((6, 20), 2.0))
    decoded = decoder(torch.randn(6, 4), torch.randn(6, 3))
    reconstruction_nll(decoded, counts, counts.sum(1, keepdim=True)).mean().backward()
    assert all((p.grad != 0).any() for p in decoder.parameters())
