"""Peaks whose accessibility goes with the expression of a gene nearby."""

import warnings

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.stats import norm
from sklearn.neighbors import NearestNeighbors

from scmetaq._errors import InputTypeError, InputValueError
from scmetaq.metrics._counts import log_normalise
from scmetaq.tl._genome import check_chromosomes, gene_starts, near_pairs, peak_places
from scmetaq.tl._summarize import finite_counts

_BLOCK = 4_000_000
"""Most numbers in a dense block."""
_LEAST_BACKGROUND = 10
"""Peaks from which a standard deviation can be estimated."""


def peak_gene_links(
    rna_metacells: AnnData,
    atac_metacells: AnnData,
    *,
    window: int = 100_000,
    n_background: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Correlate every gene with every peak near it across metacells.

    With the log-normalised expression :math:`e_{kg}` and accessibility :math:`a_{kp}` of metacell
    :math:`k` (log1p counts per 10k of each modality), a pair has Pearson's correlation

    .. math:: r_{gp} = \mathrm{cor}_k(e_{kg}, a_{kp}).

    Its p-value asks whether the gene goes with this peak more, or less, than with peaks that
    cannot regulate it: the :math:`B` peaks of other chromosomes that are most like the peak in
    mean accessibility (and GC content), :math:`b \in \mathcal B_p`.

    .. math::
        p_{gp} = 2\,\Phi\!\left(-\frac{|r_{gp} - \mathrm{mean}_b\, r_{gb}|}
        {\mathrm{sd}_b\, r_{gb}}\right)

    Parameters
    ----------
    rna_metacells
        Metacells with raw counts, mean or summed, in ``X``, and of each gene ``chrom``,
        ``start``, ``end`` (base pairs) and ``strand`` ("+" or "-") in ``var``. Genes without a
        strand or a place (empty ``chrom``, missing or negative ``start``) are left out.
    atac_metacells
        The same metacells, by name, with raw counts of peaks. Their places are the columns
        ``chrom``, ``start``, ``end`` of ``var``, else are read from names like "chr1:100-200".
        If ``var`` has a column ``gc`` (fraction or percent), the background is matched in it too.
    window
        Largest distance of a peak from the transcription start site, base pairs.
    n_background
        Peaks in the background of each peak, at least 10. If the other chromosomes of a peak have
        fewer that vary, every peak has a background of so few, with a warning.
    seed
        Breaks ties between peaks that match equally well.

    Returns
    -------
    One row per pair, by gene and then along the genome:

    - ``gene``, ``peak``: names;
    - ``distance``: base pairs from the start site to the nearest end of the peak; negative
      upstream of the gene, zero where the peak covers the site;
    - ``r``: Pearson's correlation across metacells;
    - ``pvalue``: two-sided, not adjusted; see :func:`scipy.stats.false_discovery_control`.

    Genes and peaks that do not vary between metacells have no correlation and are left out.

    Raises
    ------
    KeyError
        Gene coordinates are absent.
    TypeError, ValueError
        Metacells in common are fewer than three, counts are negative or missing, genes or peaks
        have no places or share no chromosome, strands or GC content cannot be read, or other
        chromosomes have too few peaks for the background.

    Notes
    -----
    Metacells that are in one object only are left out. The p-value takes the background as
    normal; with few metacells, or metacells of very few cells, look at its correlations yourself.

    References
    ----------
    Mao et al., COEM: Cross-Modal Embedding for MetaCell Identification, 2022 (peaks within 100 kb).
    Persad et al., SEACells, Nature Biotechnology 2023 (100 matched background peaks).
    """
    _check_settings(window, n_background)
    objects = {"rna_metacells": rna_metacells, "atac_metacells": atac_metacells}
    for argument, metacells in objects.items():
        if not isinstance(metacells, AnnData):
            raise InputTypeError(
                f"Expected an AnnData per modality, found {type(metacells).__name__}.",
                "Pass mdata['rna'].",
                argument,
            )
    names = _shared_names(objects)
    genes, peaks = gene_starts(rna_metacells.var), peak_places(atac_metacells.var)
    check_chromosomes(genes, peaks)
    expression, access = (_log(part, names, what) for what, part in objects.items())  # G, P x K
    genes.loc[_is_constant(expression), "chrom"] = ""
    peaks.loc[_is_constant(access), "chrom"] = ""
    links = near_pairs(genes, peaks, window)
    gene, peak = links["gene"].to_numpy(), links["peak"].to_numpy()
    linked, which = np.unique(peak, return_inverse=True)
    traits = _traits(access, atac_metacells.var)
    background = _background(peaks["chrom"].to_numpy(), traits, linked, n_background, seed)
    r = _correlations(expression, access, gene, peak[:, None])[:, 0]
    of_background = _correlations(expression, access, gene, background[which])  # L x B
    spread = np.maximum(of_background.std(1, ddof=1), np.finfo(np.float64).tiny)
    links["r"] = r
    links["pvalue"] = 2 * norm.sf(np.abs(r - of_background.mean(1)) / spread)
    links["gene"] = rna_metacells.var_names.to_numpy()[gene]
    links["peak"] = atac_metacells.var_names.to_numpy()[peak]
    return links


def _correlations(
    expression: sp.csr_matrix, access: sp.csr_matrix, gene: np.ndarray, peaks: np.ndarray
) -> np.ndarray:
    """Pearson's correlation of each link's gene with its peaks, ``(n_links, peaks per link)``.

    Links of one gene follow each other, so a block of them reads each gene and peak once.
    """
    n_metacells, width = expression.shape[1], peaks.shape[1]
    per_block = max(_BLOCK // (n_metacells * width), 1)
    r = np.empty(peaks.shape)
    for start in range(0, len(gene), per_block):
        block = slice(start, start + per_block)
        unique, position = np.unique(peaks[block], return_inverse=True)
        of_peaks = _standardised(access[unique])[position.reshape(-1, width)]  # L x B x K
        of_genes = _standardised(expression[gene[block]])  # L x K
        r[block] = np.matmul(of_peaks, of_genes[:, :, None])[:, :, 0]
    return np.clip(r, -1, 1)


def _standardised(rows: sp.csr_matrix) -> np.ndarray:
    """Dense rows, centred and scaled to length one."""
    dense = rows.toarray()
    dense -= dense.mean(1, keepdims=True)
    return dense / np.linalg.norm(dense, axis=1, keepdims=True)


def _traits(access: sp.csr_matrix, var: pd.DataFrame) -> np.ndarray:
    """Mean (and GC content, if there) of peaks on comparable scales, ``(n_peaks, 1 or 2)``."""
    columns = [np.log(np.maximum(np.asarray(access.mean(1)).ravel(), 1e-12))]
    if "gc" in var:
        gc = pd.to_numeric(var["gc"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        known = np.isfinite(gc)
        if not known.any():
            raise InputValueError(
                "Expected GC content, as a fraction or in percent, in `atac_metacells.var['gc']`, "
                "found no number.",
                "Fill the column, or drop it to match the background in mean only.",
                "atac_metacells",
            )
        columns.append(np.where(known, gc, np.median(gc[known])))
    traits = np.stack(columns, axis=1)
    return (traits - traits.mean(0)) / np.maximum(traits.std(0), 1e-12)


def _background(
    chrom: np.ndarray, traits: np.ndarray, linked: np.ndarray, n: int, seed: int
) -> np.ndarray:
    """The ``n`` peaks of other chromosomes most like each linked peak, ``(n_linked, n)``."""
    jitter = np.random.default_rng(seed).uniform(-1e-6, 1e-6, size=traits.shape)
    traits = traits + jitter
    others_of = {
        name: np.flatnonzero((chrom != name) & (chrom != "")) for name in np.unique(chrom[linked])
    }
    n = _n_background(n, {name: len(others) for name, others in others_of.items()})
    background = np.empty((len(linked), n), dtype=np.int64)
    for name, others in others_of.items():
        here = chrom[linked] == name
        search = NearestNeighbors(n_neighbors=n).fit(traits[others])
        nearest = search.kneighbors(traits[linked[here]], return_distance=False)
        background[here] = others[nearest]
    return background


def _n_background(n: int, n_there: dict[str, int]) -> int:
    """Background peaks per link, at most as many as each chromosome has."""
    if not n_there:  # no link to test
        return n
    name = min(n_there, key=n_there.__getitem__)
    found = f"found {n_there[name]} varying peaks on chromosomes other than {name!r}"
    if n_there[name] < _LEAST_BACKGROUND:
        raise InputValueError(
            f"Expected at least {_LEAST_BACKGROUND} peaks for its background, {found}.",
            "Pass peaks of all chromosomes.",
            "atac_metacells",
        )
    if n_there[name] < n:
        warnings.warn(
            f"Expected {n} peaks for the background of each link, {found}: these are taken, which "
            "makes p-values coarser.",
            UserWarning,
            stacklevel=4,
        )
    return min(n, n_there[name])


def _log(adata: AnnData, names: pd.Index, what: str) -> sp.csr_matrix:
    """Log1p counts per 10k, features as rows, metacells in the order of ``names``."""
    if adata.X is None:
        raise InputValueError(f"Expected raw counts in `X` of `{what}`, found nothing.")
    expected = f"raw counts, mean or summed, in `X` of `{what}`"
    fix = "Pass metacells as `scmetaq.tl.aggregate` makes them."
    return sp.csr_matrix(log_normalise(finite_counts(adata[names].X, expected, fix), np.float64).T)


def _is_constant(rows: sp.csr_matrix) -> np.ndarray:
    largest, smallest = (np.asarray(m.toarray()).ravel() for m in (rows.max(1), rows.min(1)))
    return largest == smallest


def _shared_names(objects: dict[str, AnnData]) -> pd.Index:
    for what, adata in objects.items():
        if not adata.obs_names.is_unique:
            raise InputValueError(
                f"Expected unique names of metacells in `{what}`, found repeats.",
                "Make them unique, the same way in both modalities.",
                what,
            )
    rna, atac = (adata.obs_names for adata in objects.values())
    names = rna[rna.isin(atac)]
    if len(names) < 3:
        raise InputValueError(
            f"Expected at least 3 metacells in both modalities, found {len(names)}: "
            f"`rna_metacells` has {list(rna[:3])}, ..., `atac_metacells` has {list(atac[:3])}, "
            "...",
            "Aggregate both by one assignment.",
        )
    return names


def _check_settings(window: float, n_background: int) -> None:
    is_number = isinstance(window, int | float | np.number) and not isinstance(window, bool)
    if not is_number or not 0 <= window < np.inf:
        raise InputValueError(
            f"Expected `window` as a number of base pairs, at least 0, found {window!r}.",
            argument="window",
        )
    is_whole = isinstance(n_background, int | np.integer) and not isinstance(n_background, bool)
    if not is_whole or n_background < _LEAST_BACKGROUND:
        raise InputValueError(
            f"Expected `n_background` as a whole number of peaks, at least {_LEAST_BACKGROUND}, "
            f"found {n_background!r}.",
            argument="n_background",
        )
