from typing import NamedTuple

import torch
from torch import Tensor

_PENALTY = 1.0
"""Penalty in mean squared lengths of the centred rows."""
_LEAST = 1e-9


class Ridge(NamedTuple):
    """A fitted ridge regression."""

    axes: Tensor
    """``(M, L)``."""
    offset: Tensor
    """Prediction at zero, ``(L,)``."""
    left_out: Tensor
    """Predictions for each cell of a fit without it, ``(N, L)``."""


def fit_ridge(values: Tensor, targets: Tensor, weight: Tensor) -> Ridge:
    r"""Weighted ridge regression with an intercept, and what it says of cells that are left out.

    With weights :math:`w` that sum to one, rows :math:`\tilde x_i = \sqrt{w_i} (x_i - \bar x)`
    and :math:`\tilde y_i` alike, and :math:`R = (\tilde X \tilde X^\top + \alpha I)^{-1}`, axes are
    :math:`\tilde X^\top R \tilde Y`, and without cell ``i`` its residual would be

    .. math:: \frac{\alpha (R \tilde Y)_i}{\alpha R_{ii} - w_i} \Big/ \sqrt{w_i} .

    The penalty :math:`\alpha` is the mean squared length :math:`\operatorname{tr} \tilde X \tilde
    X^\top / N`. Time grows with the square of the number of cells times the features, and with
    its third power.

    Parameters
    ----------
    values
        What is read of cells, ``(N, M)``.
    targets
        What is to be told from it, ``(N, L)``.
    weight
        Weight of each cell, ``(N,)``, above zero.

    References
    ----------
    Allen, The relationship between variable selection and data augmentation and a method for
    prediction, Technometrics 1974, for the residuals of cells left out.
    """
    weight = weight.double() / weight.sum()
    root = weight.sqrt()[:, None]  # N x 1
    mean = weight.to(values) @ values  # M
    centre = weight @ targets.double()  # L
    rows = (values - mean).mul_(root.to(values))  # N x M
    goal = (targets - centre) * root  # N x L
    gram = (rows @ rows.T).double()  # N x N
    penalty = (_PENALTY * gram.trace() / len(gram)).clamp_min(_LEAST)
    gram.diagonal().add_(penalty)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    dual = inverse @ goal  # N x L
    axes = rows.T @ dual.to(rows)  # M x L
    freedom = (penalty * inverse.diagonal() - weight).clamp_min(_LEAST)  # N
    residual = penalty * dual / freedom[:, None] / root
    return Ridge(axes, (centre - mean.double() @ axes.double()).to(axes), targets - residual)
