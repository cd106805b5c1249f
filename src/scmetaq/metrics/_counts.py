"""Raw counts checked and normalised, and metrics of expression itself."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from scmetaq._errors import InputValueError, InputWarning, check_int
from scmetaq._parallel import in_parts
from scmetaq.data._advice import where_counts_are
from scmetaq.data._cells import BLOCK, SPAN, values_of
from scmetaq.data._checks import MOST_COUNTS
from scmetaq.data._columns import same_names
from scmetaq.data._containers import Rows, Span, check_readable, in_memory

from ._groups import (
    Groups,
    as_matrix,
    check_rows,
    check_same_cells,
    check_same_order,
    group_cells,
    grouped_rows,
    unit_rows,
)
from ._log_counts import LogCounts

_VALUES = 1 << 23  # entries of a dense table of metacells and genes


class SizeSummary(NamedTuple):
    """Number of metacells with cells, of cells in none, and of cells per metacell.

    ``size_cv`` is the standard deviation of the sizes over their mean, ``counts_cv`` that of the
    counts per metacell, which Ben-Kiki et al., Genome Biology 2022 keep even; 0: all alike.
    """

    n_metacells: int
    unassigned: int
    size_median: float
    size_min: int
    size_max: int
    size_cv: float
    counts_cv: float


def size_summary(assignment: ArrayLike, totals: ArrayLike | None = None) -> SizeSummary:
    """Count metacells, cells per metacell, and cells without a metacell.

    ``assignment`` is the metacell of each cell, shape ``(n_cells,)``; missing or -1: unassigned.
    ``totals`` are the counts of each cell; without them ``counts_cv`` is NaN.
    """
    groups = group_cells(assignment)
    sizes, n_counts = groups.sizes, np.full(1, np.nan)
    if totals is not None:
        check_same_cells(assignment, totals)
        kept = groups.codes >= 0
        n_counts = np.bincount(groups.codes[kept], np.asarray(totals, np.float64)[kept])  # K
    return SizeSummary(
        n_metacells=len(sizes),
        unassigned=len(groups.codes) - groups.n_grouped,
        size_median=float(np.median(sizes)),
        size_min=int(sizes.min()),
        size_max=int(sizes.max()),
        size_cv=float(sizes.std() / sizes.mean()),
        counts_cv=float(n_counts.std() / n_counts.mean()),
    )


def inv(X: Any, assignment: ArrayLike, *, block_size: int = 256) -> pd.Series:
    r"""Variance over mean of each gene within a metacell, 95th percentile over genes.

    .. math::

        \text{INV}(M) = \operatorname{quantile}_{0.95} \left\{
            \frac{\operatorname{var}_{i \in M} x_{ig}}{\operatorname{mean}_{i \in M} x_{ig}}
            : g \right\}

    with the unbiased variance. Sampling noise alone would give all genes the same ratio; genes that
    vary more are in the upper tail. A gene that the metacell does not express counts as 1, the
    ratio of Poisson counts.

    Parameters
    ----------
    X
        Expression, shape ``(n_cells, n_genes)``, dense or sparse, not negative; in the toolkit
        log1p counts per 10k of all genes. Values of another unit or other genes do not compare.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    block_size
        Metacells whose genes are made dense at a time: bounds memory, does not change the result.

    Returns
    -------
    Value per metacell, shape ``(n_metacells,)``; lower is better; NaN for a metacell of one cell.

    References
    ----------
    Bilous et al., Molecular Systems Biology 2024 (MetacellAnalysisToolkit); after the inner
    normalised variance of Ben-Kiki et al., Metacell-2, Genome Biology 2022.
    """
    check_int("block_size", block_size)
    X, groups = grouped_rows(X, assignment)
    if not isinstance(X, LogCounts) and (X.data if sp.issparse(X) else X).min(initial=0) < 0:
        problem = "Expected `X` without negative values, found some: centred or scaled."
        raise InputValueError(problem, "Pass e.g. log1p counts per 10k.", "X")
    values = np.empty(len(groups.names))  # K
    n_groups = min(block_size, max(1, _VALUES // max(1, X.shape[1])))
    options: dict[str, Any] = {"n_cells": BLOCK, "n_groups": n_groups}
    for chosen, total in groups.sums(X, moments, **options, shown_as="Inner normalised variance"):
        sizes = groups.sizes[chosen]  # B
        mean, square = total / sizes[:, None]
        unbiased = np.divide(sizes, sizes - 1, out=np.full(len(sizes), np.nan), where=sizes > 1)
        variance = np.maximum(square - mean**2, 0) * unbiased[:, None]  # B x G
        ratio = np.divide(variance, mean, out=np.ones_like(mean), where=mean > 0)
        quantile = np.quantile(ratio, 0.95, axis=1)
        values[chosen] = np.where(sizes > 1, quantile, np.nan)
    return groups.series(values, "inv")


def moments(rows: Any, starts: np.ndarray) -> np.ndarray:
    """Sums of values and of their squares, ``(2, n_groups, n_genes)``."""
    cells = sp.csr_array(rows, dtype=np.float64)
    ends, shape = cells.indptr[[*starts, cells.shape[0]]], (len(starts), cells.shape[1])
    # a row of all entries of a metacell's cells: made dense, entries of one gene are summed
    entries = (cells.data, cells.data**2)
    return np.stack([sp.csr_array((of, cells.indices, ends), shape).toarray() for of in entries])


def modality_correlation(
    first: Any, second: Any, *, sizes: ArrayLike | None = None, block_size: int = 1024
) -> pd.Series:
    r"""Pearson correlation across metacells of pairs of features of two modalities.

    .. math::

        r_j = \frac{\sum_M n_M (a_{Mj} - \bar a_j) (b_{Mj} - \bar b_j)}
                   {\sqrt{\sum_M n_M (a_{Mj} - \bar a_j)^2 \sum_M n_M (b_{Mj} - \bar b_j)^2}}

    with weighted means :math:`\bar a` and :math:`\bar b`: the consistency of modalities in the
    analyses of SuperCell 2, of genes with their proteins or activity scores. Fewer, larger
    metacells correlate more strongly whatever their quality: compare methods at one number.

    Parameters
    ----------
    first, second
        Normalised values of the features in pairs, column by column, of the same metacells in the
        same order, shape ``(n_metacells, n_pairs)``; dense, sparse or DataFrames.
    sizes
        Cells :math:`n_M` of each metacell; None: metacells count alike.
    block_size
        Pairs made dense at a time: bounds memory, does not change the result.

    Returns
    -------
    Correlation per pair in [-1, 1], named by the columns of ``first`` if it is a DataFrame; higher
    is better; NaN where a feature does not vary.
    """
    check_int("block_size", block_size)
    named = first.columns if isinstance(first, pd.DataFrame) else None
    check_same_order(first, second)
    a = sp.csc_array(as_matrix(first, "first", "metacells by features"))
    b = sp.csc_array(as_matrix(second, "second", "metacells by features"))
    n = np.ones(a.shape[0]) if sizes is None else np.asarray(sizes, np.float64)
    if a.shape != b.shape or n.shape != a.shape[:1] or len(n) < 3 or not (n > 0).all():
        problem = "Expected both modalities of the same pairs of features and of at least three"
        problem += " metacells, with cells in each, found shapes"
        raise InputValueError(f"{problem} {a.shape}, {b.shape} and {n.shape}.")
    values = np.full(a.shape[1], np.nan)
    for start in range(0, len(values), block_size):
        at = slice(start, start + block_size)
        ours, theirs = (unit_rows(of[:, at].T, n / n.mean()) for of in (a, b))  # G x K
        defined = ours.any(axis=1) & theirs.any(axis=1)
        values[at][defined] = np.clip((ours * theirs).sum(axis=1), -1, 1)[defined]
    return pd.Series(values, index=named, name="modality_correlation")


def rna_atac_correlation(
    rna_metacells: Any,
    atac_metacells: Any,
    links: Any,
    *,
    sizes: ArrayLike | None = None,
    block_size: int = 1024,
) -> pd.Series:
    r"""Pearson correlation, per gene, of expression and linked accessibility across metacells.

    .. math:: r_g = \operatorname{cor}_M \left( R_{Mg}, \sum_p A_{Mp} L_{pg} \right)

    Parameters
    ----------
    rna_metacells
        Expression :math:`R`, shape ``(n_metacells, n_genes)``, e.g. log1p counts per 10k; dense,
        sparse or a DataFrame: names of DataFrames must agree.
    atac_metacells
        Accessibility :math:`A` of the same metacells in the same order and unit, shape
        ``(n_metacells, n_peaks)``.
    links
        Weight :math:`L` of each peak in each gene's sum, shape ``(n_peaks, n_genes)``; commonly 1
        for a peak near the gene, else 0.
    sizes, block_size
        As of :func:`modality_correlation`.

    Returns
    -------
    Correlation per gene as of :func:`modality_correlation`; NaN also for a gene without a linked
    peak.
    """
    rna = as_matrix(rna_metacells, "rna_metacells", "metacells by genes")
    atac = sp.csc_array(as_matrix(atac_metacells, "atac_metacells", "metacells by peaks"))
    weights = sp.csc_array(as_matrix(links, "links", "peaks by genes"))
    if rna.shape[0] != atac.shape[0] or weights.shape != (atac.shape[1], rna.shape[1]):
        problem = "Expected `rna_metacells` (metacells x genes) and `atac_metacells` (metacells x"
        problem += " peaks) of the same metacells and `links` (peaks x genes), found"
        raise InputValueError(f"{problem} {rna.shape}, {atac.shape} and {weights.shape}.")
    _check_names(rna_metacells, atac_metacells, links)
    first = rna_metacells if isinstance(rna_metacells, pd.DataFrame) else rna
    found = modality_correlation(first, atac @ weights, sizes=sizes, block_size=block_size)
    return found.rename("rna_atac_correlation")


def _check_names(rna: Any, atac: Any, links: Any) -> None:
    """Refuse DataFrames that name the same things differently, or in another order."""
    for first, along, second, across, what in (
        (rna, 0, atac, 0, "metacells in the rows of `rna_metacells` and of `atac_metacells`"),
        (atac, 1, links, 0, "peaks in the columns of `atac_metacells` and the rows of `links`"),
        (rna, 1, links, 1, "genes in the columns of `rna_metacells` and of `links`"),
    ):
        both_named = isinstance(first, pd.DataFrame) and isinstance(second, pd.DataFrame)
        if both_named and not same_names(first.axes[along], second.axes[across]):
            problem = f"Expected the same {what}, in the same order, found"
            fix = "Align them first, e.g. by `reindex`, or pass arrays in the same order."
            raise InputValueError(f"{problem} different names or another order.", fix)


def counts_of(adata: Any, layer: str | None, owner: str = "", *, stacklevel: int = 3) -> Any:
    """Raw counts in memory, N x F, checked as :func:`check_counts` does."""
    return in_memory(check_counts(adata, layer, owner, stacklevel=stacklevel and stacklevel + 1))


def check_counts(adata: Any, layer: str | None, owner: str = "", *, stacklevel: int = 3) -> Any:
    """Raw counts where they are; invalid ones are refused, fractions warned of but at level 0."""
    X: Any = adata.X if layer is None else adata.layers[layer]
    where = owner + ("`X`" if layer is None else f"layer {layer!r}")
    problem = f"Expected raw counts in {where}, found"

    def advice() -> tuple[str, str, str | None]:
        text, value = where_counts_are(adata, layer, "adata", "layer", is_query=False)
        return text, "layer", value

    if X is None:
        raise InputValueError(f"{problem} nothing.", *advice())
    check_readable(X, where, "layer")
    wrong, n_fractions = _odd_values(X)
    if wrong:
        raise InputValueError(f"{problem} {wrong}", *advice())
    if n_fractions and stacklevel:
        warning = InputWarning(f"{problem} fractions. If they are normalised:", *advice())
        warnings.warn(warning, stacklevel=stacklevel)
    return X


def grouped_counts(counts: Any, assignment: Any) -> tuple[LogCounts, Groups]:
    """Raw counts, checked and read where they are, with the groups of their cells."""
    groups = group_cells(assignment)
    if isinstance(counts, LogCounts):  # checked when it was made
        return counts, groups
    X = as_matrix(counts, "counts", "cells by features") if hasattr(counts, "iloc") else counts
    check_readable(X, "`counts`", "counts")
    check_rows(counts, X.shape[0], assignment, "counts")
    wrong, _ = _odd_values(X)
    if wrong:
        fix = "Pass raw counts, neither normalised nor scaled."
        raise InputValueError(f"Expected raw counts, found {wrong}", fix, "counts")
    return LogCounts(X, groups.codes), groups


def _odd_values(X: Any) -> tuple[str, int]:
    """What values there are that are no expression, and the number of fractions."""
    spans = Rows(X).spans(SPAN)
    found = in_parts(_count_odd, None, spans, n_parts=len(spans), shown_as="Checking counts")
    n_wrong, n_fractions = sum(found, np.zeros(2, int))
    wrong = f"{n_wrong} values that are negative, NaN or above {MOST_COUNTS:,}."
    return wrong if n_wrong else "", int(n_fractions)


def _count_odd(_: None, span: Span) -> np.ndarray:
    """Numbers of values that are no expression, and of fractions."""
    found = np.zeros(2, int)
    for block in span.blocks(BLOCK):
        values = values_of(block)
        is_possible = (values >= 0) & (values <= MOST_COUNTS)
        found += (~is_possible).sum(), (values != np.floor(values)).sum()
    return found
