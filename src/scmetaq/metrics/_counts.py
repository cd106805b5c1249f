"""Raw counts checked and normalised, and metrics of expression itself."""

import warnings
from typing import Any

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

from ._groups import as_matrix, grouped_rows, unit_rows
from ._log_counts import LogCounts

_VALUES = 1 << 23
"""Entries of a dense table of metacells and genes."""


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
    for chosen, total in groups.sums(X, _moments, **options, shown_as="Inner normalised variance"):
        sizes = groups.sizes[chosen]  # B
        mean, square = total / sizes[:, None]
        unbiased = np.divide(sizes, sizes - 1, out=np.full(len(sizes), np.nan), where=sizes > 1)
        variance = np.maximum(square - mean**2, 0) * unbiased[:, None]  # B x G
        ratio = np.divide(variance, mean, out=np.ones_like(mean), where=mean > 0)
        quantile = np.quantile(ratio, 0.95, axis=1)
        values[chosen] = np.where(sizes > 1, quantile, np.nan)
    return groups.series(values, "inv")


def _moments(rows: Any, starts: np.ndarray) -> np.ndarray:
    """Sums of values and of their squares, ``(2, n_groups, n_genes)``."""
    cells = sp.csr_array(rows, dtype=np.float64)
    ends, shape = cells.indptr[[*starts, cells.shape[0]]], (len(starts), cells.shape[1])
    # a row of all entries of a metacell's cells: made dense, entries of one gene are summed
    entries = (cells.data, cells.data**2)
    return np.stack([sp.csr_array((of, cells.indices, ends), shape).toarray() for of in entries])


def rna_atac_correlation(
    rna_metacells: Any, atac_metacells: Any, links: Any, *, block_size: int = 1024
) -> pd.Series:
    r"""Pearson correlation, per gene, of expression and linked accessibility across metacells.

    .. math:: r_g = \operatorname{cor}_M \left( R_{Mg}, \sum_p A_{Mp} L_{pg} \right)

    Fewer, larger metacells correlate more strongly whatever their quality: compare methods at one
    number.

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
    block_size
        Genes made dense at a time: bounds memory, does not change the result.

    Returns
    -------
    Correlation per gene in [-1, 1], shape ``(n_genes,)``, named by the columns of
    ``rna_metacells`` if it is a DataFrame; higher is better. NaN for a gene without a linked peak,
    or whose expression or accessibility does not vary.
    """
    check_int("block_size", block_size)
    names = rna_metacells.columns if isinstance(rna_metacells, pd.DataFrame) else None
    rna = sp.csc_array(as_matrix(rna_metacells, "rna_metacells", "metacells by genes"))
    atac = sp.csc_array(as_matrix(atac_metacells, "atac_metacells", "metacells by peaks"))
    weights = sp.csc_array(as_matrix(links, "links", "peaks by genes"))
    if rna.shape[0] != atac.shape[0] or weights.shape != (atac.shape[1], rna.shape[1]):
        raise InputValueError(
            "Expected `rna_metacells` (metacells x genes) and `atac_metacells` (metacells x peaks) "
            f"of the same metacells and `links` (peaks x genes), found {rna.shape}, {atac.shape} "
            f"and {weights.shape}."
        )
    if rna.shape[0] < 3:
        problem = f"Expected at least three metacells to correlate across, found {rna.shape[0]}."
        raise InputValueError(problem, argument="rna_metacells")
    _check_names(rna_metacells, atac_metacells, links)
    values = np.full(rna.shape[1], np.nan)
    for start in range(0, len(values), block_size):
        genes = slice(start, start + block_size)
        ours, theirs = unit_rows(rna[:, genes].T), unit_rows((atac @ weights[:, genes]).T)  # G x K
        defined = ours.any(axis=1) & theirs.any(axis=1)
        values[genes][defined] = np.clip((ours * theirs).sum(axis=1), -1, 1)[defined]
    return pd.Series(values, index=names, name="rna_atac_correlation")


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
    spans = Rows(X).spans(SPAN)
    found = in_parts(_odd_values, None, spans, n_parts=len(spans), shown_as="Checking counts")
    n_wrong, n_fractions = sum(found, np.zeros(2, int))
    if n_wrong:
        wrong = f"{problem} {n_wrong} values that are negative, NaN or above {MOST_COUNTS:,}."
        raise InputValueError(wrong, *advice())
    if n_fractions and stacklevel:
        warning = InputWarning(f"{problem} fractions. If they are normalised:", *advice())
        warnings.warn(warning, stacklevel=stacklevel)
    return X


def _odd_values(_: None, span: Span) -> np.ndarray:
    """Numbers of values that are no expression, and of fractions."""
    found = np.zeros(2, int)
    for block in span.blocks(BLOCK):
        values = values_of(block)
        is_possible = (values >= 0) & (values <= MOST_COUNTS)
        found += (~is_possible).sum(), (values != np.floor(values)).sum()
    return found
