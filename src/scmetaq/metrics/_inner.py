"""How far the counts of single cells are from those of their metacell, gene by gene."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scmetaq._errors import check_int
from scmetaq.data._cells import BLOCK

from ._counts import grouped_counts


def inner_fold(counts: Any, assignment: ArrayLike, *, min_counts: int = 40) -> pd.Series:
    r"""Largest fold between a cell's count of a gene and what its metacell predicts.

    .. math::

        \text{inner\_fold}(M) = \operatorname{quantile}_{0.95} \left\{ \max_{i \in M} \left|
            \log_2 \frac{u_{ig} + 1}{U_i f_{Mg} + 1} \right| : g \in G_M \right\}

    with counts :math:`u`, their sum :math:`U_i` in cell :math:`i`, and the gene's share
    :math:`f_{Mg}` of the metacell's counts. Metacells 2 (Ben-Kiki et al., Genome Biology 2022)
    reports the maximum per gene, signed, with a geometric mean for :math:`f`.

    ``counts`` are raw, of all genes, shape ``(n_cells, n_genes)``, in memory or on disk; genes
    :math:`G_M` have ``min_counts`` in the metacell. In doublings; lower is better; NaN without such
    a gene. Mostly sampling noise, of which larger metacells have more: compare at one number. More
    than 4,096 cells are judged by up to as many of them, at even distances.
    """
    return inner(counts, assignment, min_counts)[0]


def inner_stdev(counts: Any, assignment: ArrayLike, *, min_counts: int = 40) -> pd.Series:
    r"""Spread of a gene's log share among the cells of a metacell, mean over genes.

    .. math::

        \text{inner\_stdev}(M) = \frac{1}{|G_M|} \sum_{g \in G_M} \operatorname{sd}_{i \in M}
            \log_2 \frac{u_{ig} + 1}{\sum_{h \in G_M} (u_{ih} + 1)}

    with the population's standard deviation: ``inner_stdev_log`` of Metacells 2, which reports it
    per gene. Arguments, symbols and result are as of :func:`inner_fold`; NaN also for one cell.
    """
    return inner(counts, assignment, min_counts)[1]


def inner(counts: Any, assignment: Any, min_counts: int = 40) -> list[pd.Series]:
    """Both metrics, from one reading of the counts."""
    check_int("min_counts", min_counts)
    counts, groups = grouped_counts(counts, assignment)
    values = np.full((2, len(groups.names)), np.nan)
    for chosen, parts, starts in groups.chunks(BLOCK, BLOCK, "Inner folds"):
        rows = np.concatenate(parts)[:: len(parts)]
        cells = counts.raw(rows)
        for metacell, (start, stop) in enumerate(pairwise([*starts, len(rows)]), chosen.start):
            block = cells[start:stop]
            totals = block.sum(axis=0) * len(parts)  # G
            judged = totals >= min_counts
            if not judged.any():
                continue
            found = block[:, judged].toarray() + 1  # B x G, single precision
            expected = block.sum(axis=1)[:, None] * (totals[judged] / totals.sum()) + 1
            values[0, metacell] = np.quantile(np.abs(np.log2(found / expected)).max(0), 0.95)
            if stop - start > 1:
                shares = np.log2(found / found.sum(axis=1, keepdims=True))
                values[1, metacell] = shares.std(axis=0).mean()
    return [groups.series(values[0], "inner_fold"), groups.series(values[1], "inner_stdev")]
