"""Correlation of a gene's expression with the accessibility of its peaks, across metacells."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmetaq.metrics._pearson import unit_rows


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
        commonly 1 for a peak near the gene, else 0.
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
    names = rna_metacells.columns if isinstance(rna_metacells, pd.DataFrame) else None
    rna, atac, weights = (_matrix(m) for m in (rna_metacells, atac_metacells, links))
    _check_shapes(rna.shape, atac.shape, weights.shape)
    values = [
        _correlations(rna[:, genes], atac @ weights[:, genes])
        for genes in (slice(s, s + block_size) for s in range(0, rna.shape[1], block_size))
    ]
    index = pd.RangeIndex(rna.shape[1]) if names is None else names
    return pd.Series(np.concatenate(values), index=index, name="rna_atac_correlation")


def _matrix(values: Any) -> sp.csc_array:
    return sp.csc_array(values.to_numpy() if isinstance(values, pd.DataFrame) else values)


def _check_shapes(rna: tuple[int, ...], atac: tuple[int, ...], links: tuple[int, ...]) -> None:
    if rna[0] != atac[0] or links != (atac[1], rna[1]):
        raise ValueError(
            "Expected `rna_metacells` (metacells x genes) and `atac_metacells` (metacells x peaks) "
            f"of the same metacells and `links` (peaks x genes), found {rna}, {atac} and {links}."
        )
    if rna[0] < 3:
        raise ValueError(f"Expected at least three metacells to correlate across, found {rna[0]}.")


def _correlations(first: sp.csc_array, second: sp.csc_array) -> np.ndarray:
    """Pearson correlation of each pair of columns, NaN where one has no spread."""
    ours, theirs = unit_rows(first.T), unit_rows(second.T)  # G x K
    defined = ours.any(axis=1) & theirs.any(axis=1)
    return np.where(defined, np.clip((ours * theirs).sum(axis=1), -1, 1), np.nan)
