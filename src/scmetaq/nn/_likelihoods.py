"""Negative log-likelihoods of counts with analytic gradients.

Counts are 90 to 97 % zeros, where the log-gamma terms of the negative binomial cancel and those
of the Poisson vanish: they are evaluated at the non-zeros only, which is exact. A GPU, which does
all of them sooner than it can tell which are zero, evaluates them everywhere.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Likelihood = Literal["nb", "poisson", "zip"]

LOG_RATE_RANGE = (-11.5, 13.8)
"""Bounds of the log mean: about 1e-5 to 1e6 counts."""
LOG_DISPERSION_RANGE = (-9.2, 9.2)
"""Bounds of the log inverse dispersion: about 1e-4 to 1e4."""
ZERO_LOGIT_RANGE = (-9.2, 9.2)
"""Bounds of the log odds of an excess zero: probabilities of about 1e-4 to 1 - 1e-4."""


class _NegativeBinomial(torch.autograd.Function):
    """Element-wise NB negative log-likelihood in ``log m`` and ``log r``.

    With ``m`` the mean, ``r`` the inverse dispersion and ``x`` the count,

    - ``-log p = r log(1 + m/r) + x log(1 + r/m) - [lgamma(x+r) - lgamma(r) - lgamma(x+1)]``
    - ``d/d log m = r (m - x) / (r + m)``
    - ``d/d log r = r [log(1 + m/r) + (x - m)/(r + m) + psi(r) - psi(x + r)]``
    """

    @staticmethod
    def forward(ctx: Any, log_m: Tensor, log_r: Tensor, x: Tensor) -> Tensor:
        m, r = log_m.exp(), log_r.exp()  # B x M
        log1p_ratio = torch.log1p(m / r)  # B x M
        nll = r * log1p_ratio  # B x M
        at = _non_zeros(x)  # nnz
        x_at, r_at, log_r_at, log_m_at, ratio_at = (
            values.reshape(-1)[at] for values in (x, r, log_r, log_m, log1p_ratio)
        )
        sum_at = x_at + r_at
        gamma_terms = torch.lgamma(sum_at) - torch.lgamma(r_at) - torch.lgamma(x_at + 1)
        # log(r + m) is log1p_ratio + log_r
        nll.view(-1)[at] += x_at * (ratio_at + log_r_at - log_m_at) - gamma_terms
        if any(ctx.needs_input_grad[:2]):
            u = (m - x).div_(m.add_(r))  # (m - x) / (r + m)
            slope = log1p_ratio.sub_(u)
            slope.view(-1)[at] += torch.digamma(r_at) - torch.digamma(sum_at)
            ctx.save_for_backward(u.mul_(r), slope.mul_(r))
        return nll

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_m, grad_r = ctx.saved_tensors
        return grad_outputs[0] * grad_m, grad_outputs[0] * grad_r, None


class _ZeroInflatedPoisson(torch.autograd.Function):
    """Element-wise ZIP negative log-likelihood in ``log m`` and the log odds ``l`` of excess zeros.

    With ``m`` the mean of the Poisson part and ``x`` the count, ``u = l + m`` being the log odds
    that a zero is an excess one,

    - ``x = 0``: ``-log p = softplus(-l) - softplus(-u)``,
      ``d/d log m = m sigmoid(-u)``, ``d/d l = sigmoid(l) - sigmoid(u)``
    - ``x > 0``: ``-log p = softplus(l) + m - x log m + lgamma(x + 1)``,
      ``d/d log m = m - x``, ``d/d l = sigmoid(l)``
    """

    @staticmethod
    def forward(ctx: Any, log_m: Tensor, logit: Tensor, x: Tensor) -> Tensor:
        m = log_m.exp()  # B x M
        u = logit + m  # B x M
        nll = F.softplus(-logit).sub_(F.softplus(-u))  # B x M
        is_excess = torch.sigmoid(u)  # B x M, given a zero
        at = torch.nonzero(x.reshape(-1))[:, 0]  # nnz
        x_at, m_at, log_m_at, logit_at = (v.reshape(-1)[at] for v in (x, m, log_m, logit))
        nll.view(-1)[at] = F.softplus(logit_at) + m_at - x_at * log_m_at + torch.lgamma(x_at + 1)
        if any(ctx.needs_input_grad[:2]):
            slope = torch.sigmoid(logit)
            is_excess.view(-1)[at] = 0
            ctx.save_for_backward(m * (1 - is_excess) - x, slope.sub_(is_excess))
        return nll

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_m, grad_logit = ctx.saved_tensors
        return grad_outputs[0] * grad_m, grad_outputs[0] * grad_logit, None


def _non_zeros(x: Tensor) -> Tensor | slice:
    """Where counts are not zero; everywhere on a GPU.

    The terms are zero elsewhere, and a GPU has computed all of them sooner than the host has
    learnt how many it needs.
    """
    return slice(None) if x.is_cuda else torch.nonzero(x.reshape(-1))[:, 0]


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
    return _NegativeBinomial.apply(log_m, log_r, x)


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
    at = _non_zeros(x)
    constant = torch.zeros_like(log_m)
    constant.view(-1)[at] = torch.lgamma(x.reshape(-1)[at] + 1)
    return log_m.exp() - x * log_m + constant


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
    return _ZeroInflatedPoisson.apply(log_m, logit, x)


def bounded(log_value: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Clamp a logarithm to a range in which its exponential is a sane float32."""
    return log_value.clamp(*bounds)
