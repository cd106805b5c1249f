"""How far the counts of single cells are from those of their metacell, gene by gene."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from scmetaq._errors import check_int
from scmetaq.data._cells import BLOCK

from ._counts import grouped_counts

_Blocks = Callable[[], Iterable[sp.csr_array]]
"""Raw counts of a metacell's cells, which can be read again."""


def inner_fold(counts: Any, assignment: ArrayLike, *, min_counts: int = 40) -> pd.Series:
    r"""Largest fold between a cell's count of a gene and what its metacell predicts.

    .. math::

        \text{inner\_fold}(M) = \operatorname{quantile}_{0.95} \left\{ \max_{i \in M} \left|
            \log_2 \frac{u_{ig} + 1}{U_i f_{Mg} + 1} \right| : g \right\}

    with counts :math:`u`, their sum :math:`U_i` in cell :math:`i`, and the gene's share
    :math:`f_{Mg}` of the counts of the metacell. Metacells 2 (Ben-Kiki et al., Genome Biology 2022)
    reports the maximum per gene, with a geometric mean for :math:`f`.

    Parameters
    ----------
    counts
        Raw counts of all genes, shape ``(n_cells, n_genes)``, in memory or on disk.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    min_counts
        Genes with fewer counts in the metacell are not judged.

    Returns
    -------
    Value per metacell, shape ``(n_metacells,)``, in doublings; lower is better; NaN for a metacell
    without a gene of ``min_counts``. Most of it is sampling noise, of which larger metacells have
    more: compare at one number of metacells.
    """
    return _over_metacells(_fold, counts, assignment, min_counts, "inner_fold")


def inner_stdev(counts: Any, assignment: ArrayLike, *, min_counts: int = 40) -> pd.Series:
    r"""Spread of a gene's log share among the cells of a metacell, mean over genes.

    .. math::

        \text{inner\_stdev}(M) = \frac{1}{|G_M|} \sum_{g \in G_M} \operatorname{sd}_{i \in M}
            \log_2 \frac{u_{ig} + 1}{\sum_{h \in G_M} (u_{ih} + 1)}

    with the genes :math:`G_M` of at least ``min_counts`` in the metacell and the standard deviation
    :math:`\operatorname{sd}` of all its cells: ``inner_stdev_log`` of Metacells 2 (Ben-Kiki et al.,
    Genome Biology 2022), which reports it per gene. Arguments are as of :func:`inner_fold`.

    Returns
    -------
    Value per metacell, shape ``(n_metacells,)``, in doublings; lower is better; NaN for a metacell
    of one cell or without a gene of ``min_counts``.
    """
    return _over_metacells(_stdev, counts, assignment, min_counts, "inner_stdev")


def _over_metacells(
    judge: Callable[[_Blocks, np.ndarray, np.ndarray], float],
    counts: Any,
    assignment: Any,
    min_counts: int,
    name: str,
) -> pd.Series:
    """Judge each metacell by its genes with enough counts."""
    check_int("min_counts", min_counts)
    counts, groups = grouped_counts(counts, assignment)
    values = np.full(len(groups.names), np.nan)
    for chosen, parts, starts in groups.chunks(BLOCK, BLOCK, name.replace("_", " ").capitalize()):
        for metacell, blocks in enumerate(_split(counts, parts, starts), chosen.start):
            totals = sum(block.sum(axis=0) for block in blocks())  # G
            if (totals >= min_counts).any():
                values[metacell] = judge(blocks, totals, totals >= min_counts)
    return groups.series(values, name)


def _split(counts: Any, parts: list[np.ndarray], starts: np.ndarray) -> list[_Blocks]:
    """Blocks of each metacell of a chunk; those of a large one are read each time."""
    if len(parts) > 1:
        return [lambda: map(counts.raw, parts)]
    cells = counts.raw(parts[0])
    blocks = [cells[start:stop] for start, stop in pairwise([*starts, len(parts[0])])]
    return [lambda block=block: (block,) for block in blocks]


def _fold(blocks: _Blocks, totals: np.ndarray, judged: np.ndarray) -> float:
    largest, share = 0, totals[judged] / totals.sum()
    for block in blocks():
        expected = block.sum(axis=1)[:, None] * share  # B x G
        folds = np.abs(np.log2((block[:, judged].toarray() + 1) / (expected + 1)))
        largest = np.maximum(largest, folds.max(axis=0))
    return float(np.quantile(largest, 0.95))


def _stdev(blocks: _Blocks, totals: np.ndarray, judged: np.ndarray) -> float:
    n, sums, squares = 0, 0, 0
    for block in blocks():
        found = block[:, judged].toarray() + 1  # B x G
        found = np.log2(found / found.sum(axis=1, keepdims=True))
        n, sums, squares = (
            n + len(found),
            sums + found.sum(axis=0),
            squares + (found**2).sum(axis=0),
        )
    variance = np.maximum(squares / n - (sums / n) ** 2, 0)
    return float(np.sqrt(variance).mean()) if n > 1 else np.nan
