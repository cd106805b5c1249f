"""Correlation of cells within metacells, and with the nearest cell outside."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scmetaq._errors import InputValueError, check_int

from ._groups import grouped_rows, unit_rows


def compactness(X: Any, assignment: ArrayLike, *, block_size: int = 2048) -> pd.Series:
    r"""Mean Pearson correlation within each metacell, weighted by its size.

    .. math::

        \text{compactness}(M) = \frac{K}{N} \sum_{i \in M} \frac{1}{|M|} \sum_{j \in M} s(x_i, x_j)
                              = \frac{K |M|}{N} \, \frac{\| \sum_{i \in M} z_i \|^2}{|M|^2}

    with :math:`N` assigned cells in :math:`K` metacells, Pearson correlation :math:`s`, and
    :math:`z_i` the centred row :math:`x_i` scaled to length one. The second form makes the cost
    linear in the number of cells. A cell counts as its own partner, as in Eq. 23 of Li et al.,
    MetaQ, Nature Communications 2025.

    Parameters
    ----------
    X
        Expression, shape ``(n_cells, n_features)``, dense or sparse; in the paper log1p counts per
        10k.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    block_size
        Cells made dense at a time: bounds memory, does not change the result.

    Returns
    -------
    Weighted value of each metacell, shape ``(n_metacells,)``, of which the mean is the paper's
    number, at most 1; higher is better. Divide by :math:`K |M| / N` for the mean correlation.
    """
    check_int("block_size", block_size)
    X, groups = grouped_rows(X, assignment)
    values = np.empty(len(groups.names))  # K
    for metacell, rows in enumerate(groups.members):
        total = np.zeros(X.shape[1])  # F
        for start in range(0, len(rows), block_size):
            total += unit_rows(X[rows[start : start + block_size]]).sum(axis=0)
        values[metacell] = total @ total
    return groups.series(values / groups.sizes * (len(values) / groups.n_grouped), "compactness")


def separation(
    X: Any,
    assignment: ArrayLike,
    *,
    max_cells: int | None = None,
    block_size: int = 2048,
    seed: int = 0,
) -> pd.Series:
    r"""Mean Pearson distance to the nearest cell of another metacell, weighted by size.

    .. math::

        \text{separation}(M) = \frac{K}{N} \sum_{i \in M} \min_{j \notin M} [1 - s(x_i, x_j)]

    with symbols as of :func:`compactness`: Eq. 24 of Li et al., MetaQ, Nature Communications 2025.
    Blocks of cells are compared on JAX's default device: time is quadratic in the number of cells,
    unless ``max_cells`` bounds it; memory holds two dense blocks.

    Parameters
    ----------
    X, assignment, block_size
        As of :func:`compactness`; cells left out are no neighbours either.
    max_cells
        With more cells, estimate from a random sample of about this many, compared with all: of
        each metacell its share, and at least one cell. The mean of the series is then unbiased and
        time linear in the number of cells; memory also holds the sample, dense. None: exact.
    seed
        Seed of the sample.

    Returns
    -------
    Weighted value of each metacell, shape ``(n_metacells,)``, of which the mean is the paper's
    number; higher is better. Divide by :math:`K |M| / N` for the mean distance of its cells.
    """
    from ._block_correlation import nearest_outside

    check_int("block_size", block_size)
    check_int("max_cells", max_cells, optional=True)
    X, groups = grouped_rows(X, assignment)
    if len(groups.names) < 2:
        problem = f"Expected at least two metacells, found only {groups.names[0]!r}."
        fix = "Separation compares cells of different metacells; pass a finer assignment."
        raise InputValueError(problem, fix, "assignment")
    kept = np.flatnonzero(groups.codes >= 0)
    codes = groups.codes[kept]
    block_size = min(block_size, len(kept))
    sample = None
    if max_cells is not None and len(kept) > max_cells:
        sample = _sample(codes, max_cells, seed)
    nearest = nearest_outside(X, kept, codes, block_size, sample)  # N, or S
    of = codes if sample is None else codes[sample]
    mean = np.bincount(of, weights=1 - nearest) / np.bincount(of)  # K
    return groups.series(mean * groups.sizes * (len(groups.names) / len(kept)), "separation")


def _sample(codes: np.ndarray, max_cells: int, seed: int) -> np.ndarray:
    """Positions of a random sample: of each metacell its share, and at least one cell."""
    order = np.random.default_rng(seed).permutation(len(codes))
    shuffled = codes[order]
    sizes = np.bincount(codes)
    quota = np.maximum(1, sizes * max_cells // len(codes))  # K
    rank = pd.Series(shuffled).groupby(shuffled).cumcount().to_numpy()
    return np.sort(order[rank < quota[shuffled]])
