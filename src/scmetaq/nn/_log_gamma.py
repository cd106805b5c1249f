"""Differences of log-gamma and digamma, where each alone would lose the digits that matter."""

import torch
from torch import Tensor

from . import _inputs


def gamma_differences(x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    r"""Values of :math:`\log\Gamma(x + r) - \log\Gamma(r)` and of :math:`\psi(x + r) - \psi(r)`.

    Both arguments are raised by four with the recurrence of the gamma function, and Stirling's
    series of five terms are subtracted term by term. The error is below 1e-8 in double precision,
    absolute or relative, whichever is larger. In single precision, where the difference of two
    log-gammas has no digit left for large ``r``, it is that of the result. A GPU takes the
    library's functions: there, sixty small operations take longer.

    Parameters
    ----------
    x
        Counts, at least zero.
    r
        Positive numbers of the same shape.

    References
    ----------
    Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 6.1.15, 6.1.40, 6.3.18.
    """
    s = x + r
    if not _inputs.on_cpu(x):
        return torch.lgamma(s) - torch.lgamma(r), torch.digamma(s) - torch.digamma(r)
    z, y = r + 4, s + 4
    below_z, below_y = r * (r + 3), s * (s + 3)  # b; (r + 1) (r + 2) is b + 2
    log_ratio = torch.log1p(x / z)  # log y - log z
    a, b = z.reciprocal(), y.reciprocal()
    aa, bb = a * a, b * b
    log_gamma = x * y.log() + (z - 0.5) * log_ratio - x
    log_gamma += _stirling(bb).mul_(b).sub_(_stirling(aa).mul_(a))
    log_gamma += (below_z / below_y).mul_((below_z + 2) / (below_y + 2)).log_()
    digamma = log_ratio.add_(a - b, alpha=0.5).add_(_tail(aa)).sub_(_tail(bb))
    digamma += _reciprocals(below_z, r).sub_(_reciprocals(below_y, s))
    return log_gamma, digamma


def _stirling(w: Tensor) -> Tensor:
    """Sum of Stirling's series times its argument, of which ``w`` is the inverse square."""
    total = w * (1 / 1188)
    for term in (-1 / 1680, 1 / 1260, -1 / 360):
        total.add_(term).mul_(w)
    return total.add_(1 / 12)


def _tail(w: Tensor) -> Tensor:
    """What is left of digamma after log z - 1/(2z), with the sign turned."""
    total = w * (1 / 132)
    for term in (-1 / 240, 1 / 252, -1 / 120, 1 / 12):
        total.add_(term).mul_(w)
    return total


def _reciprocals(below: Tensor, r: Tensor) -> Tensor:
    """Sum of the reciprocals of r, r+1, r+2 and r+3, where ``below`` is r (r+3)."""
    return below.reciprocal().add_((below + 2).reciprocal_()).mul_(2 * r + 3)
