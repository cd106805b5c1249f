import torch
from torch import Tensor

from ._distances import squared_distances


def prototype_distances(
    values: Tensor, means: Tensor, n_cells: Tensor, *, whitening: Tensor, spread: Tensor
) -> Tensor:
    r"""Squared distances of cells to the means of labels, without what means of few cells err by.

    .. math:: \lVert W (v - \mu_k) \rVert^2 - e_k

    Parameters
    ----------
    values
        Cells, ``(B, D)``.
    means
        Means of the cells of each label, ``(L, D)``.
    n_cells
        Number of these cells, ``(L,)``; labels without any are infinitely far.
    whitening
        Whitens what varies within labels, ``(D, D)``.
    spread
        Mean squared distance of cells to the true mean of their label, ``()``.

    Returns
    -------
    ``(B, L)`` float64.
    """
    cells, centres = (rows.double() @ whitening.double() for rows in (values, means))
    errors = _errors(centres, n_cells.double(), spread.double())
    return (squared_distances(cells, centres) - errors).masked_fill(n_cells == 0, torch.inf)


def mean_errors(means: Tensor, n_cells: Tensor, *, whitening: Tensor, spread: Tensor) -> Tensor:
    r"""What is taken off squared distances to means of few cells, ``(L,)`` float64.

    A mean of :math:`n_k` cells is off by :math:`s / n_k` in expectation. That is taken off in
    full where the label lies apart from all that have more cells, and never more than by how much
    it does,

    .. math::

        e_k = \min\Bigl(\frac{s}{n_k}, \max\bigl(0, \min_{j : n_j > n_k}
        \lVert W (\mu_k - \mu_j) \rVert^2 - \frac{s}{n_k} - \frac{s}{n_j}\bigr)\Bigr),

    so that a few cells with a wrong label, whose mean is as far from that of their type as means of
    so few of its cells are, do not draw half of the type to it.

    Parameters
    ----------
    means, n_cells, whitening, spread
        As of :func:`prototype_distances`.
    """
    return _errors(means.double() @ whitening.double(), n_cells.double(), spread.double())


def _errors(centres: Tensor, n_cells: Tensor, spread: Tensor) -> Tensor:
    expected = spread / n_cells  # L
    apart = squared_distances(centres, centres) - expected[:, None] - expected
    has_more = n_cells > n_cells[:, None]  # of j, beside k
    nearest = apart.masked_fill(~has_more, torch.inf).amin(1)
    return torch.minimum(expected, nearest.clamp_min(0))
