import numpy as np
import pytest
import scipy.stats
import torch
from scvi.distributions import NegativeBinomial

from scmetaq.nn import CountParameters, count_nll
from scmetaq.nn._likelihoods import (
    LOG_DISPERSION_RANGE,
    LOG_RATE_RANGE,
    TERMS,
    ZERO_LOGIT_RANGE,
    _difference,
    bounded,
    non_zero_counts,
)

LIKELIHOODS = ["nb", "poisson", "zip"]


def parameters_of(likelihood, log_rate, other):
    pairs = {"nb": (other, None), "poisson": (None, None), "zip": (None, other)}
    return CountParameters(log_rate, *pairs[likelihood])


def elements(likelihood, log_m, other, x):
    """The loss of each count: every count is a cell of one feature."""
    column = parameters_of(likelihood, log_m.reshape(-1, 1), other.reshape(-1, 1))
    nll = count_nll(column, x.reshape(-1, 1), torch.ones(x.numel(), 1, dtype=log_m.dtype))
    return nll.reshape(x.shape)


def draw(shape=(40, 30), dtype=torch.float64):
    """Log means, second parameters and counts, most of them zero."""
    generator = torch.Generator().manual_seed(0)
    log_m = torch.empty(shape, dtype=dtype).uniform_(-4, 4, generator=generator)
    other = torch.empty(shape, dtype=dtype).uniform_(-2, 4, generator=generator)
    x = torch.poisson(torch.full(shape, 0.5, dtype=dtype), generator=generator)
    x[0, :5] = torch.tensor([1, 7, 100, 2_000, 0], dtype=dtype)
    return log_m.requires_grad_(), other.requires_grad_(), x


def value_and_gradients(value, inputs):
    weight = torch.linspace(0.5, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
    slopes = torch.autograd.grad((weight * value).sum(), inputs, allow_unused=True)
    return [value.detach(), *(slope for slope in slopes if slope is not None)]


def zero_inflated_poisson(log_m, logit, x):
    """The two cases as they are defined."""
    share = torch.sigmoid(logit)
    p = (1 - share) * torch.distributions.Poisson(log_m.exp()).log_prob(x).exp()
    return torch.log(torch.where(x == 0, share + p, p))


OTHERS = {
    "nb": lambda m, r, x: NegativeBinomial(mu=m.exp(), theta=r.exp()).log_prob(x),
    "poisson": lambda m, _, x: torch.distributions.Poisson(m.exp()).log_prob(x),
    "zip": zero_inflated_poisson,
}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_values_and_gradients_agree_with_other_libraries(likelihood):
    log_m, other, x = draw()
    x = x.clamp(max=20) if likelihood == "zip" else x  # larger counts underflow in the definition
    found = value_and_gradients(elements(likelihood, log_m, other, x), (log_m, other))
    expected = value_and_gradients(-OTHERS[likelihood](log_m, other, x), (log_m, other))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_negative_binomial_agrees_with_scipy_and_at_zero_counts_one_term_is_left():
    log_m, log_r, x = (part.detach() for part in draw())
    m, r = log_m.exp().numpy(), log_r.exp().numpy()
    expected = -scipy.stats.nbinom.logpmf(x.numpy(), r, r / (r + m))
    np.testing.assert_allclose(elements("nb", log_m, log_r, x), expected, rtol=1e-9)
    log_m, log_r, _ = draw()
    nll = elements("nb", log_m, log_r, torch.zeros_like(log_m))
    m, r = log_m.exp(), log_r.exp()
    torch.testing.assert_close(nll, r * torch.log1p(m / r), rtol=1e-14, atol=0)
    slope = torch.autograd.grad(nll.sum(), log_m)[0]
    torch.testing.assert_close(slope, r * m / (r + m), rtol=1e-14, atol=0)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_single_precision_is_enough(likelihood):
    log_m, other, x = draw()
    exact = value_and_gradients(elements(likelihood, log_m, other, x), (log_m, other))
    inputs = [part.detach().float().requires_grad_() for part in (log_m, other)]
    found = value_and_gradients(elements(likelihood, *inputs, x.float()), inputs)
    for ours, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-3, atol=1e-3)


def test_limits_of_the_distributions():
    log_m, other, x = (part.detach() for part in draw())
    log_m, few = log_m.clamp(max=2), x < 10
    poisson = elements("poisson", log_m, other, x)
    without_dispersion = elements("nb", log_m, torch.full_like(other, 18.0), x)
    torch.testing.assert_close(without_dispersion[few], poisson[few], rtol=1e-5, atol=1e-5)
    without_excess = elements("zip", log_m, torch.full_like(other, -40.0), x)
    torch.testing.assert_close(without_excess, poisson, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("count", [0.0, 1.0, 1e6])
@pytest.mark.parametrize(
    ("likelihood", "range_"), [("nb", LOG_DISPERSION_RANGE), ("zip", ZERO_LOGIT_RANGE)]
)
def test_bounds_are_finite_in_single_precision(likelihood, range_, count):
    corners = torch.cartesian_prod(torch.tensor([*LOG_RATE_RANGE, -1e4, 1e4]), torch.tensor(range_))
    inputs = [part.clone().requires_grad_() for part in corners.T]
    values = elements(likelihood, *inputs, torch.full((8,), count))
    found = value_and_gradients(values, inputs)
    assert all(torch.isfinite(part).all() for part in found)
    assert (values >= 0).all()
    assert torch.isfinite(elements("poisson", *inputs, torch.full((8,), count))).all()


def test_bounded_clamps_and_stops_gradients_outside():
    value = torch.tensor([-50.0, 1.0, 50.0]).requires_grad_()
    clamped = bounded(value, (-2.0, 3.0))
    assert clamped.tolist() == [-2, 1, 3]
    assert torch.autograd.grad(clamped.sum(), value)[0].tolist() == [0, 1, 0]


N_CELLS, N_FEATURES = 23, 17


@pytest.fixture
def drawn():
    log_rate, other, x = (part.detach().clone() for part in draw((N_CELLS, N_FEATURES)))
    log_rate[0, :2] = torch.tensor([-40, 40])  # outside of the range
    size = torch.linspace(0.4, 3, N_CELLS, dtype=torch.float64)[:, None]
    return log_rate.requires_grad_(), other.requires_grad_(), size, x


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("block", [1, 40, 1 << 17])
@pytest.mark.parametrize("lacks_some", [False, True])
@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "as on a GPU"])
def test_is_the_mean_over_features_measured(
    drawn, likelihood, block, lacks_some, on_cpu, monkeypatch
):
    log_rate, other, size, x = drawn
    log_m = (log_rate + size.log()).clamp(*LOG_RATE_RANGE)
    is_missing = torch.arange(N_FEATURES) % 3 == 2 if lacks_some else None
    counted = slice(None) if is_missing is None else ~is_missing
    wanted = elements(likelihood, log_m, other, x)[:, counted].mean(1)
    wanted = value_and_gradients(wanted, (log_rate, other))
    monkeypatch.setattr("scmetaq.nn._inputs.on_cpu", lambda values: on_cpu)
    monkeypatch.setattr("scmetaq.nn._likelihoods._BLOCK", block)
    decoded = parameters_of(likelihood, log_rate, other)
    found = count_nll(decoded, x, size, is_missing=is_missing)
    found = value_and_gradients(found, (log_rate, other))
    for ours, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    assert found[1][0, :2].tolist() == [0, 0]  # clamped


def test_a_dispersion_of_features_gets_the_sum_of_its_cells_and_shapes_must_fit(drawn):
    log_rate, _, size, x = drawn
    of_feature = torch.linspace(-1, 1, N_FEATURES, dtype=torch.float64).requires_grad_()
    shared = of_feature.expand(N_CELLS, N_FEATURES)
    found, alone = (
        value_and_gradients(count_nll(CountParameters(log_rate, r), x, size), [of_feature])[1]
        for r in (shared, shared.contiguous())
    )
    torch.testing.assert_close(found, alone, rtol=1e-12, atol=0)
    log_rate, other, size, x = drawn
    with pytest.raises(ValueError, match=r"parameters of all \(22, 17\) counts, found \(23, 17\)"):
        count_nll(CountParameters(log_rate, other), x[1:], size)
    with pytest.raises(ValueError, match=r"all \(23, 16\) counts"):
        count_nll(CountParameters(log_rate, other), non_zero_counts(x[:, 1:]), size)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_derivatives_are_computed_only_where_something_learns(likelihood):
    log_m, other, x = (part.detach() for part in draw())
    other = None if likelihood == "poisson" else other
    alone, both = (
        TERMS[likelihood](log_m, other, non_zero_counts(x), learns=learns)
        for learns in (False, True)
    )
    assert alone[1:] == (None, None)
    assert both.in_log_mean is not None
    torch.testing.assert_close(alone.nll, both.nll, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_form_of_the_inputs_does_not_matter(drawn, likelihood, dtype):
    """Counts of another precision, parameters that are not contiguous, one size for all."""
    log_rate, other, _, x = (part.detach() for part in drawn)
    x, size = x.clamp(max=100), torch.full((1, 1), 0.3, dtype=torch.float64)
    expected = count_nll(parameters_of(likelihood, log_rate, other), x, size.expand(N_CELLS, 1))
    turned = parameters_of(likelihood, *(part.T.contiguous().T for part in (log_rate, other)))
    assert torch.equal(count_nll(turned, x.to(dtype), size), expected)
    found = count_nll(turned, non_zero_counts(x.float()), size)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("lacks_some", [False, True])
def test_autocast_rounds_nothing(drawn, lacks_some):
    log_rate, other, size, x = (part.detach().float() for part in drawn)
    inputs = [log_rate.requires_grad_(), other.requires_grad_()]
    is_missing = torch.arange(N_FEATURES) % 3 == 2 if lacks_some else None

    def run():
        nll = count_nll(CountParameters(*inputs), x, size, is_missing=is_missing)
        return value_and_gradients(nll, inputs)

    expected = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run()
    assert all(torch.equal(ours, wanted) for ours, wanted in zip(found, expected, strict=True))


@pytest.fixture
def counts():
    x = torch.poisson(torch.full((7, 5), 0.4), generator=torch.Generator().manual_seed(0))
    x[2] = 0
    return x


@pytest.fixture(params=[False, True], ids=["non-zeros", "all, as on a GPU"])
def known(counts, request, monkeypatch):
    monkeypatch.setattr("scmetaq.nn._inputs.on_cpu", lambda _: not request.param)
    return non_zero_counts(counts)


def test_only_non_zeros_are_kept_off_the_gpu(counts):
    known = non_zero_counts(counts)
    assert known.at.tolist() == counts.flatten().nonzero()[:, 0].tolist()
    assert known.values.tolist() == counts[counts > 0].tolist()
    torch.testing.assert_close(known.log_factorial, torch.lgamma(known.values + 1))
    assert non_zero_counts(torch.zeros(3, 4)).values.numel() == 0
    assert non_zero_counts(torch.zeros(0, 4)).shape == (0, 4)


def test_values_are_added_and_replaced_at_counts(counts, known):
    added, replaced = torch.zeros_like(counts), torch.full_like(counts, -1)
    known.add(added, known.values)
    known.replace(replaced, known.values)
    assert torch.equal(added, counts)
    assert torch.equal(known.pick(counts), known.values)
    assert torch.equal(replaced, torch.where(counts > 0, counts, -1))


@pytest.mark.parametrize("n_values", [1, 5, 12, 34, 35, 1000])
def test_blocks_put_together_are_the_whole(counts, known, n_values):
    found, seen = torch.zeros_like(counts), []
    for rows, block in known.blocks(n_values):
        seen += range(len(counts))[rows]
        assert block.shape == tuple(counts[rows].shape)
        part = torch.zeros(block.shape)
        block.add(part, block.values)
        found[rows] = part
    assert seen == list(range(len(counts)))
    assert torch.equal(found, counts)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-8)])
def test_no_digits_of_gamma_functions_are_lost_for_large_dispersions(dtype, tolerance):
    """Differences of small counts agree with their recurrence, which loses no digits."""
    x = torch.tensor([0.0, 1, 2, 3, 10, 300], dtype=dtype)[:, None]
    r = torch.logspace(-4, 4, 161, dtype=dtype)
    i = torch.arange(300)[:, None, None]
    of_sum = (i < x) + 0.0 * r
    for function, term in ((torch.lgamma, torch.log), (torch.digamma, torch.reciprocal)):
        wanted = (of_sum * term(r.double() + i)).nan_to_num().sum(0)
        found = _difference(function, x.expand(6, 161), r.expand(6, 161))
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance)


def test_the_mean_of_counts_with_excess_zeros_is_that_of_the_others_times_their_share():
    log_rate, logit = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0]])
    mean = CountParameters(log_rate, None, logit).mean(torch.tensor([[3.0]]))
    expected = 3 * log_rate.exp() * (1 - torch.sigmoid(logit))
    torch.testing.assert_close(mean, expected)
