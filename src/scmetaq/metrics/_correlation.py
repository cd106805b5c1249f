"""Correlation of cells within metacells, and with the nearest cell outside."""

from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq._errors import InputValueError, check_int
from scmetaq.metrics._matrix import grouped_rows, unit_rows


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
    check_int("block_size", block_size)
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

    with :math:`N` assigned cells in :math:`K` metacells and Pearson correlation :math:`s`.
    Every pair of cells is compared once, block by block on JAX's default device, so time is
    quadratic in the number of cells, unless ``max_cells`` bounds it, while memory holds two dense
    blocks.

    Parameters
    ----------
    X
        Expression, shape ``(n_cells, n_features)``, dense or sparse; unit of the paper:
        log1p counts per 10k.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out, also as neighbours.
    max_cells
        If there are more cells, look for the nearest neighbour, among all cells, of a random
        sample of about this many only: of each metacell in proportion to its size, and of each at
        least one cell. Time is then linear in the number of cells; memory also holds the sample,
        dense. The mean of the series is an unbiased estimate. None: exact.
    block_size
        Cells made dense at a time: bounds memory, does not change the result.
    seed
        Seed of the sample.

    Returns
    -------
    Weighted value of each metacell, shape ``(n_metacells,)``: the plain mean of the series is the
    paper's number. Higher is better. Divide by :math:`K |M| / N` for the mean distance of one
    metacell's cells.

    References
    ----------
    Li et al., MetaQ, Nature Communications 2025, Eq. 24.
    """
    check_int("block_size", block_size)
    check_int("max_cells", max_cells)
    X, groups = grouped_rows(X, assignment)
    if len(groups.names) < 2:
        raise InputValueError(
            f"Expected at least two metacells, found only {groups.names[0]!r}.",
            "Separation compares cells of different metacells; pass a finer assignment.",
            "assignment",
        )
    kept = np.flatnonzero(groups.codes >= 0)
    codes = groups.codes[kept]
    block_size = min(block_size, len(kept))
    if max_cells is None or len(kept) <= max_cells:
        sample = np.arange(len(kept))
        nearest = _nearest_outside(X, kept, codes, block_size)  # N
    else:
        sample = _sample(codes, max_cells, seed)
        nearest = _nearest_of_sample(X, kept, codes, sample, block_size=block_size)  # S
    mean = np.bincount(codes[sample], weights=1 - nearest) / np.bincount(codes[sample])  # K
    values = mean * groups.sizes * (len(groups.names) / len(kept))  # K
    return pd.Series(values, index=groups.names.rename(_keys.METACELL), name="separation")


def _kernels() -> ModuleType:
    """Import what needs JAX when it is needed: models do not."""
    from scmetaq.metrics import _block_correlation

    return _block_correlation


def _nearest_outside(X: Any, rows: np.ndarray, codes: np.ndarray, block_size: int) -> np.ndarray:
    """Largest correlation of each row with a row of another metacell, shape ``(len(rows),)``."""
    kernels = _kernels()
    starts = range(0, len(rows), block_size)
    best = np.full(len(starts) * block_size, -np.inf, dtype=np.float32)
    for start in starts:
        here = kernels.padded_block(X, rows, codes, start, block_size)
        for other in range(start, len(rows), block_size):
            there = (
                here if other == start else kernels.padded_block(X, rows, codes, other, block_size)
            )
            # the block of correlations serves its rows and its columns
            of_here, of_there = kernels.best_of_block(*here, *there)
            for at, found in ((start, of_here), (other, of_there)):
                window = best[at : at + block_size]
                np.maximum(window, found, out=window)
    return best[: len(rows)].astype(np.float64)


def _sample(codes: np.ndarray, max_cells: int, seed: int) -> np.ndarray:
    """Positions of a random sample: of each metacell its share, and at least one cell."""
    order = np.random.default_rng(seed).permutation(len(codes))
    shuffled = codes[order]
    sizes = np.bincount(codes)
    quota = np.maximum(1, sizes * max_cells // len(codes))  # K
    rank = pd.Series(shuffled).groupby(shuffled).cumcount().to_numpy()
    return np.sort(order[rank < quota[shuffled]])


def _nearest_of_sample(
    X: Any, rows: np.ndarray, codes: np.ndarray, sample: np.ndarray, *, block_size: int
) -> np.ndarray:
    """Largest correlation of each sampled row with any row of another metacell."""
    kernels = _kernels()
    asking = [
        kernels.padded_block(X, rows[sample], codes[sample], start, block_size)
        for start in range(0, len(sample), block_size)
    ]
    best = np.full((len(asking), block_size), -np.inf, dtype=np.float32)
    for start in range(0, len(rows), block_size):
        there = kernels.padded_block(X, rows, codes, start, block_size)
        for window, here in zip(best, asking, strict=True):
            np.maximum(window, kernels.best_of_block(*here, *there)[0], out=window)
    return best.ravel()[: len(sample)].astype(np.float64)
