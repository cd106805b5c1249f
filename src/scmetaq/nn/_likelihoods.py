"""Negative log-likelihood of counts, with analytic gradients.

Counts are 90 to 97 % zeros, where the log-gamma terms of the negative binomial cancel and those of
the Poisson vanish: they are evaluated at the non-zeros only, which is exact. A GPU evaluates them
everywhere, which is faster there than finding the non-zeros.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _inputs

Likelihood = Literal["nb", "poisson", "zip"]

LOG_RATE_RANGE = (-11.5, 13.8)
"""Bounds of the log mean: about 1e-5 to 1e6 counts."""
LOG_DISPERSION_RANGE = (-9.2, 9.2)
"""Bounds of the log inverse dispersion: about 1e-4 to 1e4."""
ZERO_LOGIT_RANGE = (-9.2, 9.2)
"""Bounds of the log odds of an excess zero: probabilities of about 1e-4 to 1 - 1e-4."""
_BLOCK: Final = 1 << 17
"""Values of a block of cells, few enough to stay in the cache of a core."""


class CountParameters(NamedTuple):
    """Parameters of the count distributions of cells, each ``(n_cells, n_features)``."""

    log_rate: Tensor
    """Log of the expected count per unit of size factor."""
    log_dispersion: Tensor | None
    """Log of the inverse dispersion; None but for the negative binomial."""
    zero_logit: Tensor | None = None
    """Log odds of an excess zero; None but for the zero-inflated Poisson."""

    @property
    def likelihood(self) -> Likelihood:
        """The distribution that has these parameters."""
        if self.log_dispersion is not None:
            return "nb"
        return "poisson" if self.zero_logit is None else "zip"

    @property
    def other(self) -> Tensor | None:
        """The second parameter, if there is one."""
        return self.zero_logit if self.log_dispersion is None else self.log_dispersion

    def mean(self, size: Tensor) -> Tensor:
        """Expected counts at size factors ``(n_cells, 1)``."""
        rate = bounded(self.log_rate + size.log(), LOG_RATE_RANGE).exp()
        return rate if self.zero_logit is None else rate * torch.sigmoid(-self.zero_logit)

    def sample(self, size: Tensor) -> Tensor:
        """Draw counts at size factors ``(n_cells, 1)`` from torch's generator."""
        rate = bounded(self.log_rate + size.log(), LOG_RATE_RANGE).exp()
        if self.log_dispersion is not None:
            r = self.log_dispersion.exp()
            rate = torch._standard_gamma(r) * (rate / r)
        counts = torch.poisson(rate)
        if self.zero_logit is None:
            return counts
        return counts * torch.bernoulli(torch.sigmoid(-self.zero_logit))

    def take(self, rows: Tensor) -> "CountParameters":
        """Parameters of the given rows, which may repeat."""
        # the gradient of an embedding is a sum of rows, not a sort
        return CountParameters(
            F.embedding(rows, self.log_rate),
            *(None if v is None else F.embedding(rows, v) for v in self[1:]),
        )


class NonZeroCounts(NamedTuple):
    """Non-zero counts of cells, their places and ``log x!``; on a GPU all counts."""

    shape: tuple[int, ...]
    """Cells and features."""
    at: Tensor | None
    """Places among ``n_cells * n_features``, increasing; None if all counts are included."""
    values: Tensor
    """Counts at these places, in order."""
    log_factorial: Tensor
    """``log x!`` of each."""

    def pick(self, values: Tensor) -> Tensor:
        """Values ``(n_cells, n_features)`` at the places."""
        flat = values.reshape(-1)
        return flat if self.at is None else flat.index_select(0, self.at)

    def add(self, values: Tensor, more: Tensor) -> None:
        """Add to contiguous values ``(n_cells, n_features)`` at the places."""
        flat = values.view(-1)
        if self.at is None:
            flat.add_(more)
        else:
            flat.scatter_add_(0, self.at, more)

    def replace(self, values: Tensor, new: Tensor) -> None:
        """Replace contiguous values ``(n_cells, n_features)`` where counts are not zero."""
        flat = values.view(-1)
        if self.at is None:
            flat.copy_(torch.where(self.values != 0, new, flat))
        else:
            flat.scatter_(0, self.at, new)

    def blocks(self, n_values: int) -> Iterator[tuple[slice, "NonZeroCounts"]]:
        """Blocks of cells of about ``n_values`` values each; one block if all counts are here."""
        n_cells, width = self.shape
        step = -(-n_cells // max(1, round(n_cells * width / n_values)))
        if self.at is None or step >= n_cells:
            yield slice(0, n_cells), self
            return
        starts = list(range(0, n_cells, step))
        edges = torch.searchsorted(self.at, torch.tensor([s * width for s in starts])).tolist()
        for first, a, b in zip(starts, edges, [*edges[1:], len(self.at)], strict=True):
            rows, at = slice(first, min(first + step, n_cells)), self.at[a:b] - first * width
            shape = (rows.stop - first, width)
            yield rows, NonZeroCounts(shape, at, self.values[a:b], self.log_factorial[a:b])


def non_zero_counts(counts: Tensor) -> NonZeroCounts:
    """Return what likelihoods need of raw counts ``(n_cells, n_features)``, floating."""
    values, at = counts.reshape(-1), None
    if _inputs.on_cpu(counts):
        at = torch.from_numpy(np.flatnonzero(values.bool().numpy()))
        values = values.index_select(0, at)
    return NonZeroCounts(tuple(counts.shape), at, values, torch.lgamma(values + 1))


class Terms(NamedTuple):
    """Negative log-likelihood of every count and its derivatives, ``(n_cells, n_features)``."""

    nll: Tensor
    in_log_mean: Tensor | None = None
    """Derivative in the log mean; None where nothing learns."""
    in_other: Tensor | None = None
    """Derivative in the second parameter, where there is one."""


def negative_binomial_terms(
    log_m: Tensor, log_r: Tensor, counts: NonZeroCounts, *, learns: bool = True
) -> Terms:
    """Negative binomial in ``log m`` and ``log r`` (paper Eq. 1).

    With ``m`` the mean, ``r`` the inverse dispersion and ``x`` the count,

    - ``-log p = r log(1 + m/r) + x log(1 + r/m) - [lgamma(x+r) - lgamma(r) - lgamma(x+1)]``
    - ``d/d log m = r (m - x) / (r + m)``
    - ``d/d log r = r [log(1 + m/r) + (x - m)/(r + m) + psi(r) - psi(x + r)]``
    """
    log_ratio, r = log_m - log_r, log_r.exp()  # B x M
    log_ratio_at, r_at, x = counts.pick(log_ratio), counts.pick(r), counts.values  # nnz
    in_zero = log_ratio.exp().log1p_().mul_(r)
    more = x * F.softplus(-log_ratio_at) - _difference(torch.lgamma, x, r_at)
    more += counts.log_factorial
    if not learns:
        counts.add(in_zero, more)
        return Terms(in_zero)
    in_m = torch.sigmoid(log_ratio).mul_(r)  # r m / (r + m)
    in_r = in_zero - in_m
    counts.add(in_zero, more)
    share = x * torch.sigmoid(-log_ratio_at)  # x r / (r + m)
    counts.add(in_m, -share)
    counts.add(in_r, share - r_at * _difference(torch.digamma, x, r_at))
    return Terms(in_zero, in_m, in_r)


def _difference(function: Callable[[Tensor], Tensor], x: Tensor, r: Tensor) -> Tensor:
    """Return ``f(x + r) - f(r)``, of which single precision leaves no digits for large ``r``."""
    wide = r if r.device.type == "mps" else r.double()  # MPS has no double precision
    return (function(x + wide) - function(wide)).to(r.dtype)


def poisson_terms(
    log_m: Tensor, other: None, counts: NonZeroCounts, *, learns: bool = True
) -> Terms:
    """Poisson in ``log m`` (paper Eq. 3): ``-log p = m - x log m + log x!``, slope ``m - x``."""
    nll = log_m.exp()  # B x M
    slope = nll.clone() if learns else None
    counts.add(nll, counts.log_factorial - counts.values * counts.pick(log_m))
    if slope is not None:
        counts.add(slope, -counts.values)
    return Terms(nll, slope, other)


def zero_inflated_poisson_terms(
    log_m: Tensor, logit: Tensor, counts: NonZeroCounts, *, learns: bool = True
) -> Terms:
    r"""Zero-inflated Poisson in ``log m`` and the log odds ``l`` of excess zeros.

    .. math:: p(x) = \pi\,[x = 0] + (1 - \pi)\, \mathrm{Poisson}(x; m), \qquad
        \pi = \frac{1}{1 + e^{-l}}

    With ``u = l + m``, the log odds that a zero is an excess one,

    - ``x = 0``: ``-log p = softplus(-l) - softplus(-u)``,
      ``d/d log m = m sigmoid(-u)``, ``d/d l = sigmoid(l) - sigmoid(u)``
    - ``x > 0``: ``-log p = softplus(l) + m - x log m + lgamma(x + 1)``,
      ``d/d log m = m - x``, ``d/d l = sigmoid(l)``

    References
    ----------
    Lambert, Technometrics 34 (1992), doi:10.2307/1269547.
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


@torch.compiler.disable  # kernels of its own, and a varying number of non-zeros
def count_nll(
    parameters: CountParameters,
    counts: Tensor | NonZeroCounts,
    size_factor: Tensor,
    *,
    is_missing: Tensor | None = None,
) -> Tensor:
    """Negative log-likelihood of raw counts, mean over features (paper Eq. 1, 3).

    The paper sums over features; the mean, as in the authors' code, keeps losses comparable between
    data sets. Values and gradients are computed together, in blocks of cells that stay in a
    core's cache.

    Parameters
    ----------
    parameters
        Parameters of the count distributions, ``(n_cells, n_features)``.
    counts
        Raw counts, ``(n_cells, n_features)``, or :func:`non_zero_counts` of them, which several
        sets of parameters can share.
    size_factor
        Factor of the rates, the library size in the units of the decoder, ``(n_cells, 1)``. No
        gradient reaches it.
    is_missing
        Features that were not measured and are ignored, ``(n_features,)`` bool; by default none.

    Returns
    -------
    Mean over the features measured, in nats, ``(n_cells,)``. It can be differentiated once.

    Raises
    ------
    ValueError
        If parameters and counts differ in shape.
    """
    rate = parameters.log_rate
    if isinstance(counts, Tensor):
        counts = non_zero_counts(counts.to(rate.dtype))
    if tuple(rate.shape) != counts.shape:
        problem = f"Expected parameters of all {counts.shape} counts, found {tuple(rate.shape)}."
        raise ValueError(problem)
    if counts.values.dtype != rate.dtype:
        values, log_factorial = counts.values.to(rate.dtype), counts.log_factorial.to(rate.dtype)
        counts = counts._replace(values=values, log_factorial=log_factorial)
    weight = None
    if is_missing is not None:
        weight = (~is_missing).to(rate.dtype)  # M
        weight = weight / weight.sum().clamp_min(1)
    log_size = size_factor.log().detach().expand(len(rate), 1)
    return _CountNll.apply(parameters.likelihood, rate, parameters.other, log_size, counts, weight)


class _CountNll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        likelihood: Likelihood,
        log_rate: Tensor,
        other: Tensor | None,
        log_size: Tensor,
        counts: NonZeroCounts,
        weight: Tensor | None,
    ) -> Tensor:
        n_cells, n_features = log_rate.shape
        mean = log_rate.new_empty(n_cells)  # B
        learns = any(ctx.needs_input_grad[1:3])
        in_rate = torch.empty_like(log_rate) if learns else None  # B x M
        in_other = torch.empty_like(log_rate) if learns and other is not None else None
        for rows, of_rows in counts.blocks(_BLOCK):
            free = (log_rate[rows] + log_size[rows]).contiguous()  # b x M
            log_m = bounded(free, LOG_RATE_RANGE)
            second = None if other is None else other[rows].contiguous()
            terms = TERMS[likelihood](log_m, second, of_rows, learns=learns)
            if weight is not None:
                slopes = (None if v is None else v * weight for v in terms[1:])
                terms = Terms(terms.nll * weight, *slopes)
            mean[rows] = terms.nll.sum(1)  # no product of matrices, which autocast would round
            if in_rate is not None and terms.in_log_mean is not None:
                inside = log_m is free
                in_rate[rows] = terms.in_log_mean if inside else terms.in_log_mean * (free == log_m)
            if in_other is not None and terms.in_other is not None:
                in_other[rows] = terms.in_other
        ctx.save_for_backward(in_rate, in_other)
        ctx.scale = 1 / max(1, n_features) if weight is None else 1.0
        return mean.mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        in_rate, in_other = ctx.saved_tensors
        grad = grad_outputs[0][:, None] * ctx.scale
        in_rate, in_other = (v if v is None else v * grad for v in (in_rate, in_other))
        return None, in_rate, in_other, None, None, None


def bounded(log_value: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Clamp a logarithm; on a CPU, values that are all inside are returned as they are.

    There, checking is cheaper than a copy and a mask for the gradient; a GPU would have to wait.
    """
    if _inputs.on_cpu(log_value) and log_value.numel():
        low, high = torch.aminmax(log_value.detach())
        if bool(low >= bounds[0] and high <= bounds[1]):
            return log_value
    return log_value.clamp(*bounds)
