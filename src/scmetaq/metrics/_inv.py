"""Inner normalised variance: how noisy the noisiest genes of a metacell are."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq.metrics._grouped_rows import grouped_rows
from scmetaq.metrics._whole_number import check_whole_number


def inv(X: Any, assignment: ArrayLike, *, block_size: int = 256) -> pd.Series:
    r"""Variance over mean of each gene within a metacell, 95th percentile over genes.

    .. math::

        \text{INV}(M) = \operatorname{quantile}_{0.95} \left\{
            \frac{\operatorname{var}_{i \in M} x_{ig}}{\operatorname{mean}_{i \in M} x_{ig}}
            : g \right\}

    with the unbiased variance. If the cells of a metacell differed by counting molecules only, the
    ratio would be alike for all genes; genes that vary beyond that lie in the upper tail.
    A gene that no cell of the metacell expresses counts as 1, the ratio of Poisson counts.

    Parameters
    ----------
    X
        Expression, shape ``(n_cells, n_genes)``, dense or sparse, not negative; log1p counts per
        10k in the toolkit's own use. The value depends on the unit and on the genes: use the same
        for all methods, and all genes rather than the variable ones.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    block_size
        Metacells whose genes are made dense at a time: bounds memory, does not change the result.

    Returns
    -------
    Value per metacell, shape ``(n_metacells,)``; lower is better; NaN for a metacell of one cell.

    References
    ----------
    Bilous et al., Building and analyzing metacells in single-cell genomics data, Molecular
    Systems Biology 2024 (MetacellAnalysisToolkit); after the inner normalised variance of
    Ben-Kiki et al., Metacell-2, Genome Biology 2022.
    """
    check_whole_number("block_size", block_size)
    X, groups = grouped_rows(X, assignment)
    if X.size > 0 and (X.data if sp.issparse(X) else X).min(initial=0) < 0:
        raise ValueError(
            "Expected `X` without negative values, found some: a variance over a mean needs "
            "expression, not centred or scaled values. Pass e.g. log1p counts per 10k."
        )
    members = groups.members
    values = [
        _ratios_of(X, members[start : start + block_size])
        for start in range(0, len(members), block_size)
    ]
    return pd.Series(np.concatenate(values), index=groups.names.rename(_keys.METACELL), name="inv")


def _ratios_of(X: Any, members: list[np.ndarray]) -> np.ndarray:
    """95th percentile over genes of variance over mean, of some metacells."""
    sizes = np.array([len(rows) for rows in members])  # B
    cells = sp.csr_array(X[np.concatenate(members)], dtype=np.float64)
    pointers = np.concatenate([[0], np.cumsum(sizes)])
    ones = np.ones(pointers[-1])
    member_of = sp.csr_array((ones, np.arange(pointers[-1]), pointers))  # B x cells
    mean = (member_of @ cells).toarray() / sizes[:, None]  # B x G
    square = (member_of @ cells.power(2)).toarray() / sizes[:, None]  # B x G
    unbiased = np.divide(sizes, sizes - 1, out=np.full(len(sizes), np.nan), where=sizes > 1)
    variance = np.maximum(square - mean**2, 0) * unbiased[:, None]  # B x G
    ratio = np.divide(variance, mean, out=np.ones_like(mean), where=mean > 0)
    return np.where(sizes > 1, np.quantile(ratio, 0.95, axis=1), np.nan)
