import pytest
import torch

from scmetaq.nn import (
    negative_binomial_nll,
    non_zero_counts,
    poisson_nll,
    zero_inflated_poisson_nll,
)
from scmetaq.nn._likelihoods import LOG_RATE_RANGE
from scmetaq.nn._mean_nll import mean_nll

ELEMENTWISE = {
    "nb": negative_binomial_nll,
    "poisson": lambda m, _, x: poisson_nll(m, x),
    "zip": zero_inflated_poisson_nll,
}
N_CELLS, N_FEATURES = 23, 17


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(0)
    shape = (N_CELLS, N_FEATURES)

    def uniform(low, high, of=shape):
        return torch.empty(of, dtype=torch.float64).uniform_(low, high, generator=generator)

    log_rate, other = uniform(-4, 3), uniform(-2, 4)
    log_rate[0, :2] = torch.tensor([-40, 40])  # outside of the range
    log_size = uniform(-1, 1, (N_CELLS, 1))
    x = torch.poisson(torch.full(shape, 0.5, dtype=torch.float64), generator=generator)
    return log_rate.requires_grad_(), other.requires_grad_(), log_size, x


def gradients(value, inputs):
    weight = torch.linspace(0.5, 2, len(value), dtype=value.dtype)
    return torch.autograd.grad((weight * value).sum(), inputs, allow_unused=True)


@pytest.mark.parametrize("likelihood", ELEMENTWISE)
@pytest.mark.parametrize("block", [1, 40, 1 << 17])
@pytest.mark.parametrize("weighted", [False, True])
def test_is_the_mean_of_the_elements(drawn, likelihood, block, weighted, monkeypatch):
    monkeypatch.setattr("scmetaq.nn._mean_nll._BLOCK", block)
    log_rate, other, log_size, x = drawn
    weight = torch.linspace(0, 1, N_FEATURES, dtype=torch.float64) if weighted else None
    second = None if likelihood == "poisson" else other
    found = mean_nll(likelihood, log_rate, second, log_size, non_zero_counts(x), weight=weight)
    log_m = (log_rate + log_size).clamp(*LOG_RATE_RANGE)
    elements = ELEMENTWISE[likelihood](log_m, other, x)
    wanted = elements.mean(1) if weight is None else elements @ weight
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    inputs = [log_rate] if likelihood == "poisson" else [log_rate, other]
    of_found, of_wanted = gradients(found, inputs), gradients(wanted, inputs)
    for ours, theirs in zip(of_found, of_wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert of_found[0][0, 1] == 0  # clamped


def test_a_dispersion_of_features_gets_the_sum_of_its_cells(drawn):
    log_rate, _, log_size, x = drawn
    of_feature = torch.linspace(-1, 1, N_FEATURES, dtype=torch.float64).requires_grad_()
    other = of_feature.expand(N_CELLS, N_FEATURES)
    known = non_zero_counts(x)
    found = mean_nll("nb", log_rate, other, log_size, known)
    alone = mean_nll("nb", log_rate, other.contiguous(), log_size, known)
    torch.testing.assert_close(
        gradients(found, [of_feature]), gradients(alone, [of_feature]), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("likelihood", ELEMENTWISE)
def test_gradients_by_finite_differences(drawn, likelihood):
    log_rate, other, log_size, x = (part[1:4, :5].detach() for part in drawn)
    known, second = non_zero_counts(x), None if likelihood == "poisson" else other
    inputs = [part.requires_grad_() for part in (log_rate, second) if part is not None]
    assert torch.autograd.gradcheck(
        lambda m, o=None: mean_nll(likelihood, m, o, log_size, known), inputs
    )


def test_nothing_is_kept_for_gradients_that_nobody_asks_for(drawn):
    log_rate, other, log_size, x = (part.detach() for part in drawn)
    found = mean_nll("nb", log_rate, other, log_size, non_zero_counts(x))
    assert not found.requires_grad
