import numpy as np
import pytest
import scipy.stats
import torch
from scvi.distributions import NegativeBinomial, ZeroInflatedNegativeBinomial

from scmetaq.nn import negative_binomial_nll, poisson_nll, zero_inflated_poisson_nll
from scmetaq.nn._likelihoods import LOG_DISPERSION_RANGE, LOG_RATE_RANGE, ZERO_LOGIT_RANGE, bounded


def draw(shape=(40, 30), seed=0, dtype=torch.float64):
    """Log means, log inverse dispersions and counts, most of them zero, as leaves."""
    generator = torch.Generator().manual_seed(seed)
    log_m = torch.empty(shape, dtype=dtype).uniform_(-4, 4, generator=generator)
    log_r = torch.empty(shape, dtype=dtype).uniform_(-2, 4, generator=generator)
    x = torch.poisson(torch.full(shape, 0.5, dtype=dtype), generator=generator)
    x[0, :5] = torch.tensor([1, 7, 100, 2_000, 0], dtype=dtype)
    return log_m.requires_grad_(), log_r.requires_grad_(), x


def value_and_gradients(function, *inputs):
    value = function(*inputs)
    weight = torch.linspace(0.5, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
    return [value.detach(), *torch.autograd.grad((weight * value).sum(), inputs)]


def test_negative_binomial_agrees_with_scvi_tools():
    log_m, log_r, x = draw()
    found = value_and_gradients(lambda m, r: negative_binomial_nll(m, r, x), log_m, log_r)
    expected = value_and_gradients(
        lambda m, r: -NegativeBinomial(mu=m.exp(), theta=r.exp()).log_prob(x), log_m, log_r
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_negative_binomial_agrees_with_scipy():
    log_m, log_r, x = (part.detach() for part in draw())
    m, r = log_m.exp().numpy(), log_r.exp().numpy()
    expected = -scipy.stats.nbinom.logpmf(x.numpy(), r, r / (r + m))
    np.testing.assert_allclose(negative_binomial_nll(log_m, log_r, x), expected, rtol=1e-9)


def test_single_precision_is_enough():
    log_m, log_r, x = draw()
    exact = value_and_gradients(lambda m, r: negative_binomial_nll(m, r, x), log_m, log_r)
    inputs = [part.detach().float().requires_grad_() for part in (log_m, log_r)]
    found = value_and_gradients(lambda m, r: negative_binomial_nll(m, r, x.float()), *inputs)
    for ours, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-3, atol=1e-3)


def test_negative_binomial_gradients_by_finite_differences():
    log_m, log_r, x = draw((5, 6))
    assert torch.autograd.gradcheck(lambda m, r: negative_binomial_nll(m, r, x), (log_m, log_r))


def test_poisson_gradients_by_finite_differences():
    log_m, _, x = draw((5, 6))
    assert torch.autograd.gradcheck(lambda m: poisson_nll(m, x), (log_m,))


def test_at_zero_counts_only_one_term_is_left():
    log_m, log_r, _ = draw()
    nll = negative_binomial_nll(log_m, log_r, torch.zeros_like(log_m))
    m, r = log_m.exp(), log_r.exp()
    torch.testing.assert_close(nll, r * torch.log1p(m / r), rtol=1e-14, atol=0)
    slope = torch.autograd.grad(nll.sum(), log_m)[0]
    torch.testing.assert_close(slope, r * m / (r + m), rtol=1e-14, atol=0)


def test_zeros_are_not_touched_by_their_neighbours():
    log_m, log_r, x = (part.detach() for part in draw())
    alone = negative_binomial_nll(log_m, log_r, torch.zeros_like(x))
    together = negative_binomial_nll(log_m, log_r, x)
    torch.testing.assert_close(together[x == 0], alone[x == 0], rtol=0, atol=0)


def test_poisson_agrees_with_torch():
    log_m, _, x = draw()
    found = value_and_gradients(lambda m: poisson_nll(m, x), log_m)
    expected = value_and_gradients(
        lambda m: -torch.distributions.Poisson(m.exp()).log_prob(x), log_m
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_poisson_is_the_limit_of_the_negative_binomial():
    log_m, log_r, x = (part.detach() for part in draw())
    limit = negative_binomial_nll(log_m.clamp(max=2), torch.full_like(log_r, 18.0), x)
    few = x < 10
    torch.testing.assert_close(
        limit[few], poisson_nll(log_m.clamp(max=2), x)[few], rtol=1e-5, atol=1e-5
    )


def zip_reference(log_m, logit, x):
    """The two cases written down as they are defined."""
    share = torch.sigmoid(logit)
    p = (1 - share) * torch.distributions.Poisson(log_m.exp()).log_prob(x).exp()
    return -torch.log(torch.where(x == 0, share + p, p))


def test_zero_inflated_poisson_agrees_with_its_definition():
    log_m, odds, x = draw()
    x = x.clamp(max=20)  # larger counts underflow in the definition
    found = value_and_gradients(lambda m, o: zero_inflated_poisson_nll(m, o, x), log_m, odds)
    expected = value_and_gradients(lambda m, o: zip_reference(m, o, x), log_m, odds)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_zero_inflated_poisson_is_the_limit_of_scvi_tools_distribution():
    log_m, logit, x = (part.detach() for part in draw())
    few = x < 10
    limit = ZeroInflatedNegativeBinomial(
        mu=log_m.clamp(max=2).exp(), theta=torch.full_like(log_m, 1e7), zi_logits=logit
    ).log_prob(x)
    found = zero_inflated_poisson_nll(log_m.clamp(max=2), logit, x)
    torch.testing.assert_close(found[few], -limit[few], rtol=1e-4, atol=1e-4)


def test_zero_inflated_poisson_sums_to_one():
    x = torch.arange(60, dtype=torch.float64)[:, None].expand(60, 3).contiguous()
    log_m = torch.tensor([[-3.0, 0.0, 2.0]], dtype=torch.float64).expand(60, 3).contiguous()
    logit = torch.tensor([[-4.0, 1.0, 0.0]], dtype=torch.float64).expand(60, 3).contiguous()
    total = (-zero_inflated_poisson_nll(log_m, logit, x)).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(3, dtype=torch.float64))


def test_without_excess_zeros_it_is_the_poisson():
    log_m, _, x = (part.detach() for part in draw())
    log_m = log_m.clamp(max=2)
    found = zero_inflated_poisson_nll(log_m, torch.full_like(log_m, -40.0), x)
    torch.testing.assert_close(found, poisson_nll(log_m, x), rtol=1e-9, atol=1e-9)


def test_zero_inflated_poisson_gradients_by_finite_differences():
    log_m, logit, x = draw((5, 6))
    assert torch.autograd.gradcheck(lambda m, o: zero_inflated_poisson_nll(m, o, x), (log_m, logit))


def test_zero_inflated_poisson_in_single_precision():
    log_m, logit, x = draw()
    exact = value_and_gradients(lambda m, o: zero_inflated_poisson_nll(m, o, x), log_m, logit)
    inputs = [part.detach().float().requires_grad_() for part in (log_m, logit)]
    found = value_and_gradients(lambda m, o: zero_inflated_poisson_nll(m, o, x.float()), *inputs)
    for ours, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("log_m", LOG_RATE_RANGE)
@pytest.mark.parametrize("logit", ZERO_LOGIT_RANGE)
@pytest.mark.parametrize("count", [0.0, 1.0, 1e6])
def test_bounds_of_excess_zeros_are_finite_in_single_precision(log_m, logit, count):
    inputs = [torch.tensor([value]).requires_grad_() for value in (log_m, logit)]
    nll = zero_inflated_poisson_nll(*inputs, torch.tensor([count]))
    assert torch.isfinite(nll)
    assert nll >= 0
    assert all(torch.isfinite(part) for part in torch.autograd.grad(nll, inputs))


@pytest.mark.parametrize("log_m", LOG_RATE_RANGE)
@pytest.mark.parametrize("log_r", LOG_DISPERSION_RANGE)
@pytest.mark.parametrize("count", [0.0, 1.0, 1e6])
def test_bounds_are_finite_in_single_precision(log_m, log_r, count):
    inputs = [torch.tensor([value]).requires_grad_() for value in (log_m, log_r)]
    nll = negative_binomial_nll(*inputs, torch.tensor([count]))
    gradients = torch.autograd.grad(nll, inputs)
    assert torch.isfinite(nll)
    assert all(torch.isfinite(part) for part in gradients)
    assert torch.isfinite(poisson_nll(inputs[0], torch.tensor([count])))


def test_bounded_clamps_and_stops_gradients_outside():
    value = torch.tensor([-50.0, 1.0, 50.0]).requires_grad_()
    clamped = bounded(value, (-2.0, 3.0))
    assert clamped.tolist() == [-2, 1, 3]
    assert torch.autograd.grad(clamped.sum(), value)[0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("nll", ["nb", "poisson", "zip"])
def test_terms_at_zeros_change_nothing(monkeypatch, nll):
    """What a GPU computes, which does not pick out the non-zeros."""
    log_m, log_r, x = draw()

    def run():
        log_m.grad = log_r.grad = None
        if nll == "poisson":
            out = poisson_nll(log_m, x)
        elif nll == "zip":
            out = zero_inflated_poisson_nll(log_m, log_r, x)
        else:
            out = negative_binomial_nll(log_m, log_r, x)
        out.sum().backward()
        return [out.detach(), log_m.grad, *([] if nll == "poisson" else [log_r.grad])]

    expected = run()
    monkeypatch.setattr("scmetaq.nn._device.on_cpu", lambda values: False)
    for found, wanted in zip(run(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("nll", ["nb", "poisson", "zip"])
def test_counts_may_be_of_another_type(nll, dtype):
    log_m, other, x = (part.detach() for part in draw())
    x = x.clamp(max=100)

    def run(x):
        if nll == "poisson":
            return poisson_nll(log_m, x)
        both = negative_binomial_nll if nll == "nb" else zero_inflated_poisson_nll
        return both(log_m, other, x)

    assert torch.equal(run(x.to(dtype)), run(x))
