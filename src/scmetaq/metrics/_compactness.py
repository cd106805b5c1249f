"""Compactness: how alike the cells of a metacell are."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq.metrics._grouped_rows import grouped_rows
from scmetaq.metrics._pearson import unit_rows
from scmetaq.metrics._whole_number import check_whole_number


def compactness(X: Any, assignment: ArrayLike, *, block_size: int = 2048) -> pd.Series:
    r"""Mean Pearson correlation within each metacell, weighted by its size.

    .. math::

        \text{compactness}(M) = \frac{K}{N} \sum_{i \in M} \frac{1}{|M|} \sum_{j \in M} s(x_i, x_j)
                              = \frac{K |M|}{N} \, \frac{\| \sum_{i \in M} z_i \|^2}{|M|^2}

    with :math:`N` assigned cells in :math:`K` metacells, Pearson correlation :math:`s`, and
    :math:`z_i` the centred row :math:`x_i` scaled to length one. The second form makes the cost
    linear in the number of cells. As in the paper, a cell counts as its own partner.

    Parameters
    ----------
    X
        Expression, shape ``(n_cells, n_features)``, dense or sparse; unit of the paper:
        log1p counts per 10k.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    block_size
        Cells made dense at a time: bounds memory, does not change the result.

    Returns
    -------
    Weighted value of each metacell, shape ``(n_metacells,)``: the plain mean of the series is the
    paper's number, at most 1. Higher is better. Divide by :math:`K |M| / N` for the mean
    correlation within one metacell.

    References
    ----------
    Li et al., MetaQ, Nature Communications 2025, Eq. 23.
    """
    check_whole_number("block_size", block_size)
    X, groups = grouped_rows(X, assignment)
    members = groups.members
    lengths = np.array([_squared_length_of_sum(X, rows, block_size) for rows in members])  # K
    values = lengths / groups.sizes * (len(members) / groups.n_grouped)
    return pd.Series(values, index=groups.names.rename(_keys.METACELL), name="compactness")


def _squared_length_of_sum(X: Any, rows: np.ndarray, block_size: int) -> float:
    """Squared length of the sum of the rows' unit vectors."""
    total = np.zeros(X.shape[1])  # F
    for start in range(0, len(rows), block_size):
        total += unit_rows(X[rows[start : start + block_size]]).sum(axis=0)
    return float(total @ total)
