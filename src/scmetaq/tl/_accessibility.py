"""Genes scored by the accessibility of their peaks, and peaks that are open in a metacell."""

from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.stats import poisson

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputValueError, check_layer, check_share, check_unique
from scmetaq.metrics._counts import counts_of
from scmetaq.metrics._log_counts import log_normalise
from scmetaq.tl._peak_gene_links import peak_places
from scmetaq.tl._summarize import check_anndata

_LINKS: Final = ["gene", "peak", "r", "pvalue"]


def gene_scores(
    atac_metacells: AnnData, links: pd.DataFrame, *, max_pvalue: float = 0.1, min_r: float = 0.1
) -> AnnData:
    r"""Score genes by the accessibility of their linked peaks, as SEACells (Persad et al. 2023).

    .. math:: s_{kg} = \sum_{p :\, r_{gp} > r_0,\, p_{gp} < p_0} r_{gp}\, a_{kp}

    with the log-normalised accessibility :math:`a_{kp}` (log1p counts per 10k) of metacell
    :math:`k` and the correlation :math:`r_{gp}` of peak and gene across metacells.

    Parameters
    ----------
    atac_metacells
        Metacells with raw counts of the peaks of ``links``, mean or summed, in ``X``.
    links
        Table of :func:`peak_gene_links`: ``gene``, ``peak``, ``r`` and ``pvalue``.
    max_pvalue, min_r
        Thresholds of links that are used. SEACells' p-value of .1 is one-sided, which is .2 here.

    Returns
    -------
    Metacells by genes with a link that is used: scores in ``X``, CSR, and ``var["n_peaks"]``.
    """
    check_anndata(atac_metacells, "atac_metacells")
    check_share("max_pvalue", max_pvalue)
    check_share("min_r", min_r)
    absent = [name for name in _LINKS if name not in getattr(links, "columns", ())]
    if absent:
        problem = f"Expected a DataFrame with the columns {_LINKS} as `links`, found no {absent}."
        raise InputKeyError(problem, "Pass the table of `tl.peak_gene_links`.", "links")
    pairs = pd.Index(links["gene"].astype(str) + " and " + links["peak"].astype(str))
    check_unique(pairs, "pairs of gene and peak in `links`", "drop the repeats", "links")
    names = atac_metacells.var_names
    check_unique(names, "names of peaks", "atac_metacells.var_names_make_unique()")
    used = links[(links["pvalue"] < max_pvalue) & (links["r"] > min_r)]
    if used.empty:
        problem = f"Expected links with r > {min_r} and p < {max_pvalue}, found none."
        raise InputValueError(problem, "Lower `min_r` or raise `max_pvalue`.", "links")
    peak = names.get_indexer(used["peak"])
    if (peak < 0).any():
        unknown = used["peak"].iloc[int(peak.argmin())]
        problem = f"Expected peaks of `atac_metacells` in `links`, found {unknown!r}."
        raise InputValueError(problem, "Pass the metacells that the links are of.", "links")
    gene, genes = pd.factorize(used["gene"].astype(str))
    weights = sp.csr_matrix((used["r"], (peak, gene)), shape=(len(names), len(genes)))
    counts = counts_of(atac_metacells, None, "`atac_metacells`, ", stacklevel=0)
    scores = sp.csr_matrix(log_normalise(counts, np.float64) @ weights)
    var = pd.DataFrame({"n_peaks": np.bincount(gene)}, index=genes)
    return AnnData(scores, atac_metacells.obs.copy(), var)


def open_peaks(
    atac_metacells: AnnData,
    *,
    layer: str | None = _keys.COUNTS,
    max_pvalue: float = 0.01,
    genome_size: float | None = None,
) -> AnnData:
    r"""Find the peaks with more counts in a metacell than a place of their size has by chance.

    .. math::
        P_{kp} = \Pr\left(Y \ge x_{kp}\right), \quad
        Y \sim \mathrm{Poisson}\left(\frac{w_p}{G} \sum_q x_{kq}\right)

    for :math:`x_{kp}` counts of a peak of :math:`w_p` in a genome of :math:`G` base pairs. A peak
    is open where this is at most ``max_pvalue`` over the number of peaks with counts in the
    metacell (Bonferroni), after SEACells (Persad et al. 2023). Deep metacells have more open peaks.

    Parameters
    ----------
    atac_metacells
        Metacells with summed raw counts of peaks; places of peaks as in :func:`peak_gene_links`.
    layer
        Layer with the sums. None: ``X``, which must then have them.
    max_pvalue
        Level of each metacell, before the correction for several peaks.
    genome_size
        Effective length of the genome, base pairs. None: 5,000 per peak, as in SEACells.

    Returns
    -------
    The metacells and peaks with ``X`` true where a peak is open, CSR, and ``obs["n_open"]`` and
    ``var["n_open"]``. Peaks without a place are never open.
    """
    check_anndata(atac_metacells, "atac_metacells")
    check_share("max_pvalue", max_pvalue)
    check_layer(atac_metacells, layer)
    places = peak_places(atac_metacells.var)
    width = np.maximum(places["end"] - places["start"], 1).where(places["chrom"] != "").to_numpy()
    size = 5_000 * len(width) if genome_size is None else genome_size
    if not isinstance(size, int | float | np.number) or not np.nansum(width) <= size < np.inf:
        problem = f"Expected `genome_size` with {np.nansum(width):,.0f} base pairs of peaks, found"
        raise InputValueError(f"{problem} {size!r}.", "Pass e.g. 2.7e9.", "genome_size")
    counts = sp.csr_matrix(counts_of(atac_metacells, layer, stacklevel=0), copy=True)  # K x P
    counts.sum_duplicates()
    counts.eliminate_zeros()
    if (counts.data != np.rint(counts.data)).any():
        problem = f"Expected sums of raw counts in {layer or 'X'!r}, found fractions."
        raise InputValueError(problem, "Name the layer with the sums.", "layer")
    is_open = np.zeros(counts.nnz, bool)
    for start, end in zip(counts.indptr, counts.indptr[1:], strict=False):
        x = counts.data[start:end].astype(np.float64)
        expected = width[counts.indices[start:end]] / size * x.sum()
        is_open[start:end] = poisson.sf(x - 1, expected) <= max_pvalue / max(len(x), 1)
    X = sp.csr_matrix((is_open, counts.indices, counts.indptr), counts.shape)
    X.eliminate_zeros()
    found = AnnData(X, atac_metacells.obs.copy(), atac_metacells.var.copy())
    found.obs["n_open"], found.var["n_open"] = X.getnnz(1), X.getnnz(0)
    return found
