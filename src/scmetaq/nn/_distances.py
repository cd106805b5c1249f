"""Distances of cells to codes."""

from typing import Final

import torch
from torch import Tensor

_OF_ALL: Final = 10
"""Cells of a code that count as much as all others for how far its cells typically are."""


def distances_without(z: Tensor, codes: Tensor, assignment: Tensor) -> Tensor:
    r"""Squared distances of cells to their code as it would be without them, ``(n_cells,)``.

    The mean of the :math:`n` cells of a code is nearer to each of them than to other cells of the
    same state: without the cell its distance is :math:`n / (n - 1)` as large. Infinite for a cell
    that is alone.

    Parameters
    ----------
    z
        Latents, ``(n_cells, n_latent)``.
    codes
        ``(n_codes, n_latent)``.
    assignment
        Code of each cell, ``(n_cells,)``.
    """
    size = torch.bincount(assignment, minlength=len(codes))[assignment]  # N
    factor = size / (size - 1)
    return torch.where(
        size > 1, (z - codes[assignment]).square().sum(1) * factor.square(), torch.inf
    )


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances of rows, ``(n, d)`` and ``(m, d)`` to ``(n, m)``."""
    beside = torch.addmm(b.square().sum(1), a, b.T, alpha=-2)
    return (beside + a.square().sum(1)[:, None]).clamp_min(0)


def typical_distances(distance: Tensor, assignment: Tensor, n_codes: int) -> Tensor:
    """How far the cells of each code typically are from it, ``(n_codes,)``.

    The median of its cells. Few of them say little, so that the median of all cells is mixed in,
    as if there were ten cells more of which it is the median.

    Parameters
    ----------
    distance
        Distance of each cell to its code, ``(n_cells,)``.
    assignment
        Code of each cell, ``(n_cells,)``.
    n_codes
        Number of codes.
    """
    size = torch.bincount(assignment, minlength=n_codes)  # K
    by_code = distance[assignment.argsort(stable=True)].split(size.tolist())
    own = torch.stack([of.median() if len(of) else distance.new_zeros(()) for of in by_code])
    return (size * own + _OF_ALL * distance.median()) / (size + _OF_ALL)
