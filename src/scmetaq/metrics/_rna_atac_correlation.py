"""Correlation of a gene's expression with the accessibility of its peaks, across metacells."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmetaq.metrics._matrix import as_matrix
from scmetaq.metrics._pearson import unit_rows
from scmetaq.metrics._whole_number import check_whole_number


def rna_atac_correlation(
    rna_metacells: Any, atac_metacells: Any, links: Any, *, block_size: int = 1024
) -> pd.Series:
    r"""Pearson correlation, per gene, of expression and linked accessibility across metacells.

    .. math:: r_g = \operatorname{cor}_M \left( R_{Mg}, \sum_p A_{Mp} L_{pg} \right)

    with expression :math:`R`, accessibility :math:`A` and links :math:`L`. Metacells in which both
    kinds of data are averaged over the same cells of one state show the relation that is lost in
    the sparsity of single cells.

    Parameters
    ----------
    rna_metacells
        Expression, shape ``(n_metacells, n_genes)``, dense, sparse or a DataFrame; e.g. log1p
        counts per 10k.
    atac_metacells
        Accessibility of the same metacells in the same order, shape ``(n_metacells, n_peaks)``;
        e.g. log1p counts per 10k.
    links
        Weight of each peak in each gene's sum, shape ``(n_peaks, n_genes)``, dense or sparse;
        commonly 1 for a peak near the gene, else 0. Names of DataFrames must agree.
    block_size
        Genes made dense at a time: bounds memory, does not change the result.

    Returns
    -------
    Correlation per gene in [-1, 1], shape ``(n_genes,)``, named by the columns of
    ``rna_metacells`` if it is a DataFrame; higher is better. NaN for a gene without a linked peak,
    or whose expression or accessibility does not vary.

    Notes
    -----
    Fewer, larger metacells correlate more strongly whatever their quality: compare methods at the
    same number of metacells.
    """
    check_whole_number("block_size", block_size)
    names = rna_metacells.columns if isinstance(rna_metacells, pd.DataFrame) else None
    rna = sp.csc_array(as_matrix(rna_metacells, "rna_metacells", "metacells by genes"))
    atac = sp.csc_array(as_matrix(atac_metacells, "atac_metacells", "metacells by peaks"))
    weights = sp.csc_array(as_matrix(links, "links", "peaks by genes"))
    _check_shapes(rna.shape, atac.shape, weights.shape)
    _check_names(rna_metacells, atac_metacells, links)
    values = [
        _correlations(rna[:, genes], atac @ weights[:, genes])
        for genes in (slice(s, s + block_size) for s in range(0, rna.shape[1], block_size))
    ]
    index = pd.RangeIndex(rna.shape[1]) if names is None else names
    return pd.Series(np.concatenate(values), index=index, name="rna_atac_correlation")


def _check_shapes(rna: tuple[int, ...], atac: tuple[int, ...], links: tuple[int, ...]) -> None:
    if rna[0] != atac[0] or links != (atac[1], rna[1]):
        raise ValueError(
            "Expected `rna_metacells` (metacells x genes) and `atac_metacells` (metacells x peaks) "
            f"of the same metacells and `links` (peaks x genes), found {rna}, {atac} and {links}."
        )
    if rna[0] < 3:
        raise ValueError(f"Expected at least three metacells to correlate across, found {rna[0]}.")


def _check_names(rna: Any, atac: Any, links: Any) -> None:
    """Refuse DataFrames that name the same things differently, or in another order."""
    pairs = {
        "metacells in the rows of `rna_metacells` and of `atac_metacells`": ((rna, 0), (atac, 0)),
        "peaks in the columns of `atac_metacells` and the rows of `links`": ((atac, 1), (links, 0)),
        "genes in the columns of `rna_metacells` and of `links`": ((rna, 1), (links, 1)),
    }
    for what, ((first, along), (second, beside)) in pairs.items():
        both_named = isinstance(first, pd.DataFrame) and isinstance(second, pd.DataFrame)
        if both_named and not first.axes[along].equals(second.axes[beside]):
            raise ValueError(
                f"Expected the same {what}, in the same order, found different names or another "
                "order. Align them first, e.g. by `reindex`, or pass arrays in the same order."
            )


def _correlations(first: sp.csc_array, second: sp.csc_array) -> np.ndarray:
    """Pearson correlation of each pair of columns, NaN where one has no spread."""
    ours, theirs = unit_rows(first.T), unit_rows(second.T)  # G x K
    defined = ours.any(axis=1) & theirs.any(axis=1)
    return np.where(defined, np.clip((ours * theirs).sum(axis=1), -1, 1), np.nan)
