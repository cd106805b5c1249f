"""Sizes of metacells in a few numbers."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from scmetaq.metrics._groups import group_cells


class SizeSummary(NamedTuple):
    """Number and sizes of metacells.

    Attributes
    ----------
    n_metacells
        Number of metacells with at least one cell.
    unassigned
        Number of cells in no metacell.
    size_median, size_min, size_max
        Cells per metacell.
    size_cv
        Coefficient of variation of the sizes (standard deviation over mean); 0: all alike.
    """

    n_metacells: int
    unassigned: int
    size_median: float
    size_min: int
    size_max: int
    size_cv: float


def size_summary(assignment: ArrayLike) -> SizeSummary:
    """Count metacells, cells per metacell, and cells without a metacell.

    Parameters
    ----------
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: counted as unassigned.
    """
    groups = group_cells(assignment)
    sizes = groups.sizes
    return SizeSummary(
        n_metacells=len(sizes),
        unassigned=len(groups.codes) - groups.n_grouped,
        size_median=float(np.median(sizes)),
        size_min=int(sizes.min()),
        size_max=int(sizes.max()),
        size_cv=float(sizes.std() / sizes.mean()),
    )
