"""Correlation of cells within metacells, and with the nearest cell outside."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scmetaq._errors import InputValueError, check_int

from ._groups import grouped_rows, unit_rows

_COMPARED = 20_000  # cells up to which all are compared with a sample


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
        Expression, shape ``(n_cells, n_features)``, dense or sparse, e.g. log1p counts per 10k.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    block_size
        Cells made dense at a time: bounds memory, does not change the result.

    Returns
    -------
    Value of each metacell, shape ``(n_metacells,)``, of which the mean is the paper's number, at
    most 1; higher is better. Divide by :math:`K |M| / N` for the mean correlation.
    """
    check_int("block_size", block_size)
    X, groups = grouped_rows(X, assignment)
    values = np.empty(len(groups.names))  # K

    def sums_of(rows: Any, starts: np.ndarray) -> np.ndarray:
        return np.add.reduceat(unit_rows(rows), starts, axis=0)  # B x F

    for chosen, total in groups.sums(X, sums_of, n_cells=block_size, shown_as="Compactness"):
        values[chosen] = np.square(total).sum(axis=1)
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

    with symbols and result as of :func:`compactness`; higher is better: Eq. 24 of Li et al., MetaQ,
    Nature Communications 2025. Blocks of cells are compared on JAX's default device: time is
    quadratic in the number of cells, unless ``max_cells`` bounds it; memory holds two dense blocks.

    Parameters
    ----------
    X, assignment, block_size
        As of :func:`compactness`; cells left out are no neighbours either.
    max_cells
        With more cells, estimate in linear time, from a random sample of about this many: of each
        metacell its share, and at least one cell. They are compared with at most 20,000 random
        cells (``2 * max_cells`` if more), of which the nearest is too far: by how much is measured
        in a twentieth as many that are compared with all, and subtracted. The mean is unbiased,
        with a standard error of about 0.001 at 10,000; memory also holds the smaller of the sets
        compared, dense. None: exact.
    seed
        Seed of the sample.
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
    search = partial(nearest_outside, X, groups.codes, min(block_size, len(kept)))
    if max_cells is None or len(kept) <= max_cells:
        sample, nearest = kept, search(kept)  # N
    else:
        sample, some, missed = kept[_sample(codes, max_cells, seed)], kept, np.zeros(1)
        if len(kept) > (n_some := max(_COMPARED, 2 * max_cells)):
            rng = np.random.default_rng(seed).spawn(1)[0]  # independent of the sample's
            # of two metacells for sure: every cell then has one to be compared with
            two = [kept[np.argmax(codes == metacell)] for metacell in (0, 1)]
            some = np.union1d(rng.choice(kept, n_some, replace=False), two)
            judged = rng.choice(kept, n_some // 20, replace=False)
            missed = search(judged, kept) - search(judged, some)
        nearest = search(sample, some) + missed.mean()  # S
    of = groups.codes[sample]
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
