"""Negative log-likelihoods of counts with analytic gradients.

Counts are 90 to 97 % zeros, where the log-gamma terms of the negative binomial cancel and those
of the Poisson vanish: they are evaluated at the non-zeros only, which is exact. A GPU, which does
all of them sooner than it can tell which are zero, evaluates them everywhere.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _device
from ._log_gamma import gamma_differences
from ._non_zero_counts import NonZeroCounts, non_zero_counts

Likelihood = Literal["nb", "poisson", "zip"]

LOG_RATE_RANGE = (-11.5, 13.8)
"""Bounds of the log mean: about 1e-5 to 1e6 counts."""
LOG_DISPERSION_RANGE = (-9.2, 9.2)
"""Bounds of the log inverse dispersion: about 1e-4 to 1e4."""
ZERO_LOGIT_RANGE = (-9.2, 9.2)
"""Bounds of the log odds of an excess zero: probabilities of about 1e-4 to 1 - 1e-4."""


class Terms(NamedTuple):
    """Element-wise negative log-likelihood and its derivatives, ``(n_cells, n_features)``."""

    nll: Tensor
    in_log_mean: Tensor | None = None
    """Derivative in the log mean; None where nothing learns."""
    in_other: Tensor | None = None
    """Derivative in the second parameter, where there is one."""

    def weighted(self, weight: Tensor) -> "Terms":
        """All of them times the weight of each feature, ``(n_features,)``."""
        slopes = (None if v is None else v * weight for v in self[1:])
        return Terms(self.nll * weight, *slopes)


def negative_binomial_terms(
    log_m: Tensor, log_r: Tensor, counts: NonZeroCounts, *, learns: bool = True
) -> Terms:
    """Negative binomial in ``log m`` and ``log r``.

    With ``m`` the mean, ``r`` the inverse dispersion and ``x`` the count,

    - ``-log p = r log(1 + m/r) + x log(1 + r/m) - [lgamma(x+r) - lgamma(r) - lgamma(x+1)]``
    - ``d/d log m = r (m - x) / (r + m)``
    - ``d/d log r = r [log(1 + m/r) + (x - m)/(r + m) + psi(r) - psi(x + r)]``
    """
    log_ratio, r = log_m - log_r, log_r.exp()  # B x M
    log_ratio_at, r_at, x = counts.pick(log_ratio), counts.pick(r), counts.values  # nnz
    in_zero = log_ratio.exp().log1p_().mul_(r)
    log_gamma, digamma = gamma_differences(x, r_at)
    more = x * F.softplus(-log_ratio_at) - log_gamma + counts.log_factorial
    if not learns:
        counts.add(in_zero, more)
        return Terms(in_zero)
    in_m = torch.sigmoid(log_ratio).mul_(r)  # r m / (r + m)
    in_r = in_zero - in_m
    counts.add(in_zero, more)
    share = x * torch.sigmoid(-log_ratio_at)  # x r / (r + m)
    counts.add(in_m, -share)
    counts.add(in_r, share - r_at * digamma)
    return Terms(in_zero, in_m, in_r)


def poisson_terms(
    log_m: Tensor, other: None, counts: NonZeroCounts, *, learns: bool = True
) -> Terms:
    """Poisson in ``log m``: ``-log p = m - x log m + log x!``, ``d/d log m = m - x``."""
    nll = log_m.exp()  # B x M
    slope = nll.clone() if learns else None
    counts.add(nll, counts.log_factorial - counts.values * counts.pick(log_m))
    if slope is not None:
        counts.add(slope, -counts.values)
    return Terms(nll, slope, other)


def zero_inflated_poisson_terms(
    log_m: Tensor, logit: Tensor, counts: NonZeroCounts, *, learns: bool = True
) -> Terms:
    """Zero-inflated Poisson in ``log m`` and the log odds ``l`` of excess zeros.

    With ``m`` the mean of the Poisson part and ``x`` the count, ``u = l + m`` being the log odds
    that a zero is an excess one,

    - ``x = 0``: ``-log p = softplus(-l) - softplus(-u)``,
      ``d/d log m = m sigmoid(-u)``, ``d/d l = sigmoid(l) - sigmoid(u)``
    - ``x > 0``: ``-log p = softplus(l) + m - x log m + lgamma(x + 1)``,
      ``d/d log m = m - x``, ``d/d l = sigmoid(l)``
    """
    m = log_m.exp()  # B x M
    u = logit + m
    nll = F.softplus(-logit).sub_(F.softplus(-u))
    x, m_at, logit_at = counts.values, counts.pick(m), counts.pick(logit)  # nnz
    poisson = m_at - x * counts.pick(log_m) + counts.log_factorial
    counts.replace(nll, F.softplus(logit_at) + poisson)
    if not learns:
        return Terms(nll)
    in_m = torch.sigmoid(-u).mul_(m)
    in_logit = torch.sigmoid(logit).sub_(torch.sigmoid(u))
    counts.replace(in_m, m_at - x)
    counts.replace(in_logit, torch.sigmoid(logit_at))
    return Terms(nll, in_m, in_logit)


TERMS: Final[dict[Likelihood, Callable[..., Terms]]] = {
    "nb": negative_binomial_terms,
    "poisson": poisson_terms,
    "zip": zero_inflated_poisson_terms,
}


class _ElementWise(torch.autograd.Function):
    """Negative log-likelihood of every count."""

    @staticmethod
    def forward(
        ctx: Any, likelihood: Likelihood, log_m: Tensor, other: Tensor | None, x: Tensor
    ) -> Tensor:
        log_m, other = log_m.contiguous(), None if other is None else other.contiguous()
        counts = non_zero_counts(x.to(log_m.dtype))
        terms = TERMS[likelihood](log_m, other, counts, learns=any(ctx.needs_input_grad[1:3]))
        ctx.save_for_backward(terms.in_log_mean, terms.in_other)
        return terms.nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor, Tensor | None, None]:
        in_log_mean, in_other = ctx.saved_tensors
        grad = grad_outputs[0]
        return None, grad * in_log_mean, None if in_other is None else grad * in_other, None


def negative_binomial_nll(log_m: Tensor, log_r: Tensor, x: Tensor) -> Tensor:
    """Negative binomial negative log-likelihood (paper Eq. 1), element by element.

    Parameters
    ----------
    log_m
        Log of the mean in counts, shape ``(n_cells, n_features)``.
    log_r
        Log of the inverse dispersion, shape ``(n_cells, n_features)``.
    x
        Raw counts, shape ``(n_cells, n_features)``.

    Returns
    -------
    Negative log-likelihood in nats, shape ``(n_cells, n_features)``.
    """
    return _ElementWise.apply("nb", log_m, log_r, x)


def poisson_nll(log_m: Tensor, x: Tensor) -> Tensor:
    """Poisson negative log-likelihood (paper Eq. 3), element by element.

    Parameters
    ----------
    log_m
        Log of the mean in counts, shape ``(n_cells, n_features)``.
    x
        Raw counts, shape ``(n_cells, n_features)``.

    Returns
    -------
    Negative log-likelihood in nats, shape ``(n_cells, n_features)``.
    """
    return _ElementWise.apply("poisson", log_m, None, x)


def zero_inflated_poisson_nll(log_m: Tensor, logit: Tensor, x: Tensor) -> Tensor:
    r"""Zero-inflated Poisson negative log-likelihood, element by element.

    .. math:: p(x) = \pi\,[x = 0] + (1 - \pi)\, \mathrm{Poisson}(x; m), \qquad
        \pi = \frac{1}{1 + e^{-l}}

    Parameters
    ----------
    log_m
        Log of the mean :math:`m` of the Poisson part in counts, shape ``(n_cells, n_features)``.
    logit
        Log odds :math:`l` of an excess zero, shape ``(n_cells, n_features)``.
    x
        Raw counts, shape ``(n_cells, n_features)``.

    Returns
    -------
    Negative log-likelihood in nats, shape ``(n_cells, n_features)``.

    References
    ----------
    Lambert, Technometrics 34 (1992), doi:10.2307/1269547.
    """
    return _ElementWise.apply("zip", log_m, logit, x)


def bounded(log_value: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Clamp a logarithm to a range in which its exponential is a sane float32.

    Off the GPU, values that are all inside are handed back as they are: a look is cheaper than a
    copy now and a mask for its gradient later.
    """
    if is_inside(log_value, bounds):
        return log_value
    return log_value.clamp(*bounds)


def is_inside(values: Tensor, bounds: tuple[float, float]) -> bool:
    """Whether all values are known to be within bounds; on a GPU nobody waits to find out."""
    if not _device.on_cpu(values) or not values.numel():
        return False
    low, high = torch.aminmax(values.detach())
    return bool(low >= bounds[0] and high <= bounds[1])
