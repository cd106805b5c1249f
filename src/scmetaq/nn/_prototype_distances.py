import torch
from torch import Tensor


def prototype_distances(
    values: Tensor, means: Tensor, n_cells: Tensor, *, whitening: Tensor, spread: Tensor
) -> Tensor:
    r"""Squared distances of cells to the means of labels, unbiased by how many cells these have.

    .. math:: \lVert W (v - \mu_k) \rVert^2 - s / n_k

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
    whitening, n_cells = whitening.double(), n_cells.double()
    cells, centres = values.double() @ whitening, means.double() @ whitening  # B x D, L x D
    squares = cells.square().sum(1, keepdim=True) + centres.square().sum(1)
    distances = squares - 2 * cells @ centres.T - spread.double() / n_cells  # B x L
    return distances.masked_fill(n_cells == 0, torch.inf)
