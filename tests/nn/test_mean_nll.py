import pytest
import torch

from scmetaq.nn import (
    negative_binomial_nll,
    non_zero_counts,
    poisson_nll,
    zero_inflated_poisson_nll,
)
from scmetaq.nn._likelihoods import LOG_RATE_RANGE, TERMS
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
@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "as on a GPU"])
def test_is_the_mean_of_the_elements(drawn, likelihood, block, weighted, on_cpu, monkeypatch):
    monkeypatch.setattr("scmetaq.nn._device.on_cpu", lambda values: on_cpu)
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


@pytest.mark.parametrize("likelihood", ELEMENTWISE)
def test_derivatives_are_computed_only_where_something_learns(drawn, likelihood):
    log_m, other, _, x = (part.detach() for part in drawn)
    second = None if likelihood == "poisson" else other
    alone = TERMS[likelihood](log_m[:, 2:].contiguous(), *cut(second, x), learns=False)
    both = TERMS[likelihood](log_m[:, 2:].contiguous(), *cut(second, x), learns=True)
    assert alone[1:] == (None, None)
    assert both.in_log_mean is not None
    torch.testing.assert_close(alone.nll, both.nll, rtol=0, atol=0)


def cut(second, x):
    """Second parameters and counts of all but two features."""
    known = non_zero_counts(x[:, 2:].contiguous())
    return None if second is None else second[:, 2:].contiguous(), known


def test_parameters_of_other_cells_than_the_counts_are_refused(drawn):
    log_rate, other, log_size, x = drawn
    with pytest.raises(ValueError, match=r"parameters of all \(22, 17\) counts, found \(23, 17\)"):
        mean_nll("nb", log_rate, other, log_size, non_zero_counts(x[1:]))
    with pytest.raises(ValueError, match=r"all \(23, 16\) counts"):
        mean_nll("nb", log_rate, other, log_size, non_zero_counts(x[:, 1:]))


def test_parameters_need_not_be_contiguous_nor_counts_of_their_precision(drawn):
    log_rate, other, log_size, x = (part.detach() for part in drawn)
    expected = mean_nll("nb", log_rate, other, log_size, non_zero_counts(x))
    turned = (part.T.contiguous().T for part in (log_rate, other))
    found = mean_nll("nb", *turned, log_size, non_zero_counts(x.float()))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_one_size_for_all_cells(drawn, monkeypatch):
    monkeypatch.setattr("scmetaq.nn._mean_nll._BLOCK", 40)
    log_rate, other, _, x = (part.detach() for part in drawn)
    known, size = non_zero_counts(x), torch.full((1, 1), 0.3, dtype=torch.float64)
    found = mean_nll("nb", log_rate, other, size, known)
    expected = mean_nll("nb", log_rate, other, size.expand(N_CELLS, 1), known)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_autocast_rounds_nothing(drawn, weighted):
    log_rate, other, log_size, x = (part.detach().float() for part in drawn)
    inputs = [log_rate.requires_grad_(), other.requires_grad_()]
    weight = torch.linspace(0, 1, N_FEATURES) if weighted else None

    def run():
        value = mean_nll("nb", *inputs, log_size, non_zero_counts(x), weight=weight)
        return [value.detach(), *gradients(value, inputs)]

    expected = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run()
    for ours, wanted in zip(found, expected, strict=True):
        assert torch.equal(ours, wanted)
