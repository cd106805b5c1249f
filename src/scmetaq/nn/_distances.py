"""Distances of cells to codes and to each other."""

from typing import Final

import torch
from torch import Tensor

_OF_ALL: Final = 10
"""Cells of a code that count as much as all others for the typical distance of its cells."""
N_NEIGHBORS: Final = 30
_BANDWIDTH_NEIGHBOR: Final = 4
_GROUP: Final = 16
"""Cells in a group of which only the nearest is looked at first."""
_BLOCK: Final = 1_024


def distances_without(
    z: Tensor, codes: Tensor, assignment: Tensor, *, size: Tensor | None = None
) -> Tensor:
    r"""Squared distances of cells to their code as it would be without them, ``(n_cells,)``.

    Without the cell the distance to the mean of the :math:`n` cells of its code is
    :math:`n / (n - 1)` times as large. Infinite for a cell that is alone. Latents ``(n_cells, D)``,
    codes ``(n_codes, D)`` and the code of each cell, ``(n_cells,)``, are given; where codes have
    more cells than these, also their number, ``(n_codes,)``.
    """
    size = torch.bincount(assignment, minlength=len(codes)) if size is None else size
    size = size[assignment]  # N
    factor = size / (size - 1)
    squares = distances_to(z, codes, assignment)
    return torch.where(size > 1, squares * factor.square(), torch.inf)


def distances_to(z: Tensor, centres: Tensor, index: Tensor) -> Tensor:
    """Squared distance of each cell to the centre of its index, ``(n_cells,)``, in small blocks."""
    blocks = zip(z.split(_BLOCK), index.split(_BLOCK), strict=True)
    return torch.cat([(rows - centres[which]).square().sum(1) for rows, which in blocks])


def squared_distances(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Squared Euclidean distances of rows, ``(n, d)`` and ``(m, d)`` to ``(n, m)``.

    With the ``weight`` of each dimension for each row of ``a``, ``(n, d)``; rows of which all are
    one have the distances that they have without, to the bit.
    """
    cross = torch.addmm(b.square().sum(1), a, b.T, alpha=-2)
    found = (cross + a.square().sum(1)[:, None]).clamp_min(0)
    if weight is None:
        return found
    weight = weight.to(a)
    squares = weight @ b.square().T + (weight * a.square()).sum(1, keepdim=True)
    weighted = (squares - 2 * (weight * a) @ b.T).clamp_min(0)
    return torch.where((weight == 1).all(1, keepdim=True), found, weighted)


def typical_distances(distance: Tensor, assignment: Tensor, n_codes: int) -> Tensor:
    """Distance from each code at which its cells typically are, ``(n_codes,)``.

    The median of its cells, shrunk to that of all cells as by ten more cells at the latter.
    """
    size = torch.bincount(assignment, minlength=n_codes)  # K
    by_code = distance[assignment.argsort(stable=True)].split(size.tolist())
    own = torch.stack([of.median() if len(of) else distance.new_zeros(()) for of in by_code])
    return (size * own + _OF_ALL * distance.median()) / (size + _OF_ALL)


def n_distinct(z: Tensor) -> int:
    """Number of different rows, by their product with a random vector: no copy is sorted."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.rand(z.shape[1], generator=generator).to(z.device)
    found = [(rows.float() * vector).double().sum(1) for rows in z.split(_BLOCK)]
    return len(torch.cat(found).unique())


def principal_scores(z: Tensor, n_axes: int) -> Tensor:
    """Cells on their principal axes, ``(n_cells, n_axes)``, of which there may be fewer."""
    centred = z - z.mean(0)
    return centred @ _eigenvectors(centred.T @ centred)[:, -n_axes:]


def _eigenvectors(matrix: Tensor) -> Tensor:
    """Eigenvectors in columns; in double precision where LAPACK fails for one of low rank."""
    try:
        found = torch.linalg.eigh(matrix)[1]
    except torch.linalg.LinAlgError:
        found = torch.full_like(matrix, torch.nan)
    return found if found.isfinite().all() else torch.linalg.eigh(matrix.double())[1].to(matrix)


def neighborhood_mean(scores: Tensor, reference: Tensor, values: Tensor | None = None) -> Tensor:
    r"""Mean of the reference cells around each cell, near ones counting most.

    Weights are :math:`\exp(-d_{ij}^2 / \sigma_i^2)` over the 30 nearest reference cells, with
    :math:`\sigma_i` the distance to the 4th: a type with few cells has no near neighbours but
    its own and is not blended into others.

    Parameters
    ----------
    scores
        Scores of the cells, ``(n_cells, n_scores)``.
    reference
        Scores of the reference cells, ``(n_reference, n_scores)``.
    values
        What to average over the reference cells, ``(n_reference, n_values)``; by default their
        scores.

    Returns
    -------
    ``(n_cells, n_values)``.
    """
    values = reference if values is None else values
    return torch.cat([_block_mean(block, reference, values) for block in scores.split(_BLOCK)])


def _block_mean(scores: Tensor, reference: Tensor, values: Tensor) -> Tensor:
    n_neighbors = max(1, min(N_NEIGHBORS, len(reference) // 10))
    squares = reference.square().sum(1)  # R
    partial, index = _smallest(torch.addmm(squares, scores, reference.T, alpha=-2), n_neighbors)
    distance = (partial + scores.square().sum(1)[:, None]).clamp_min(0)  # B x k
    width = distance[:, min(_BANDWIDTH_NEIGHBOR, n_neighbors - 1)]  # B
    weight = torch.exp(-distance / width.clamp_min(1e-12)[:, None])  # B x k
    weight = weight / weight.sum(1, keepdim=True)
    return torch.einsum("bk,bks->bs", weight, values[index])  # B x V


def _smallest(values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The ``n`` smallest of each row, in order, and their columns.

    They are in the ``n`` groups of columns that have the smallest minima, which is sooner found.
    """
    n_groups = values.shape[1] // _GROUP
    if n_groups <= n:
        few = values.topk(n, dim=1, largest=False)
        return few.values, few.indices
    n_grouped = n_groups * _GROUP  # a group is every n_groups-th column
    smallest = values[:, :n_grouped].unflatten(1, (_GROUP, n_groups)).amin(1)
    group = smallest.topk(n, dim=1, largest=False).indices  # B x n
    members = torch.arange(0, n_grouped, n_groups, device=values.device)  # of group 0
    rest = torch.arange(n_grouped, values.shape[1], device=values.device)
    columns = (group[:, :, None] + members).flatten(1)
    columns = torch.cat([columns, rest.expand(len(values), -1)], 1)
    found = values.gather(1, columns).topk(n, dim=1, largest=False)
    return found.values, columns.gather(1, found.indices)


def codebook_loss(z: Tensor, z_q: Tensor) -> Tensor:
    r"""Distance of codes to the cells they stand for (Eq. 10), ``(n_cells,)``.

    :math:`\|q(z) - \mathrm{sg}[z]\|^2 / D`: the cells are held, the codes move. The paper sums
    over the ``D`` dimensions, the authors' code, and this function, average.
    """
    return (z_q - z.detach()).square().mean(1)
