"""Peaks whose accessibility goes with the expression of a gene nearby."""

import re
import warnings
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.stats import norm
from sklearn.neighbors import NearestNeighbors

from scmetaq._errors import InputKeyError, InputValueError, check_int, check_unique
from scmetaq.metrics._counts import counts_of
from scmetaq.metrics._groups import unit_rows
from scmetaq.metrics._log_counts import log_normalise
from scmetaq.tl._summarize import check_anndata

_BLOCK = 4_000_000  # most numbers in a dense block
_LEAST_BACKGROUND = 10  # peaks from which a standard deviation can be estimated
_COLUMNS: Final = ["chrom", "start", "end"]
_FARTHEST: Final = 2**53  # base pairs; beyond this, and at infinity, decimals are no places
_STRANDS: Final = {"+": 1, "1": 1, "1.0": 1, "-": -1, "-1": -1, "-1.0": -1}
_NO_STRAND: Final = {"", "*", ".", "nan", "None", "<NA>"}
_NAME: Final = re.compile(r"(?P<chrom>.+?)[:_-](?P<start>\d+)[_-](?P<end>\d+)")


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
    cannot regulate it: the :math:`B` peaks :math:`b \in \mathcal B_p` of other chromosomes most
    like it in mean accessibility (and GC content).

    .. math::
        p_{gp} = 2\,\Phi\!\left(-\frac{|r_{gp} - \mathrm{mean}_b\, r_{gb}|}
        {\mathrm{sd}_b\, r_{gb}}\right)

    Parameters
    ----------
    rna_metacells
        Metacells with raw counts, mean or summed, in ``X``, and of each gene ``chrom``,
        ``start``, ``end`` (base pairs) and ``strand`` ("+" or "-") in ``var``; genes without a
        strand or a place (empty ``chrom``, missing or negative ``start``) are left out.
    atac_metacells
        The same metacells, by name, with raw counts of peaks, and their ``chrom``, ``start``,
        ``end`` in ``var``, else names like "chr1:100-200". By a column ``gc`` (fraction or
        percent), if there, the background is matched, too.
    window
        Largest distance of a peak from the transcription start site, base pairs.
    n_background
        Peaks in the background of each peak, at least 10; with a warning fewer, if other
        chromosomes of some peak have fewer that vary.
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
    KeyError, TypeError, ValueError
        No gene coordinates, fewer than three metacells in common, negative or missing counts,
        genes or peaks without places or a common chromosome, unreadable strands or GC content, or
        too few peaks on other chromosomes.

    Notes
    -----
    Metacells that are in one object only are left out. The p-value takes the background as
    normal; with few metacells, or metacells of very few cells, look at its correlations yourself.

    References
    ----------
    Mao et al., COEM: Cross-Modal Embedding for MetaCell Identification, 2022 (peaks within 100 kb).
    Persad et al., SEACells, Nature Biotechnology 2023 (100 matched background peaks).
    """
    is_number = isinstance(window, int | float | np.number) and not isinstance(window, bool)
    if not is_number or not 0 <= window < np.inf:
        raise InputValueError(f"Expected `window` in base pairs, at least 0, found {window!r}.")
    check_int("n_background", n_background, least=_LEAST_BACKGROUND)
    objects = {"rna_metacells": rna_metacells, "atac_metacells": atac_metacells}
    names = _shared_names(objects)
    genes, peaks = gene_starts(rna_metacells.var), peak_places(atac_metacells.var)
    check_chromosomes(genes, peaks)
    expression, access = (_log(part, names, what) for what, part in objects.items())  # G, P x K
    for places, rows in ((genes, expression), (peaks, access)):
        is_constant = (rows.max(1).toarray() == rows.min(1).toarray()).ravel()
        places.loc[is_constant, "chrom"] = ""
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
    """Pearson's correlation of each link's gene with its peaks, ``(n_links, peaks per link)``."""
    # links of one gene follow each other, so a block of them reads each gene and peak once
    n_metacells, width = expression.shape[1], peaks.shape[1]
    per_block = max(_BLOCK // (n_metacells * width), 1)
    r = np.empty(peaks.shape)
    for start in range(0, len(gene), per_block):
        block = slice(start, start + per_block)
        unique, position = np.unique(peaks[block], return_inverse=True)
        of_peaks = unit_rows(access[unique])[position.reshape(-1, width)]  # L x B x K
        of_genes = unit_rows(expression[gene[block]])  # L x K
        r[block] = np.matmul(of_peaks, of_genes[:, :, None])[:, :, 0]
    return np.clip(r, -1, 1)


def _traits(access: sp.csr_matrix, var: pd.DataFrame) -> np.ndarray:
    """Mean (and GC content, if there) of peaks on comparable scales, ``(n_peaks, 1 or 2)``."""
    columns = [np.log(np.maximum(np.asarray(access.mean(1)).ravel(), 1e-12))]
    if "gc" in var:
        gc = pd.to_numeric(var["gc"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        known = np.isfinite(gc)
        if not known.any():
            problem = "Expected GC content in `atac_metacells.var['gc']`, found no number."
            fix = "Fill the column, or drop it to match the background in mean only."
            raise InputValueError(problem, fix)
        columns.append(np.where(known, gc, np.median(gc[known])))
    traits = np.stack(columns, axis=1)
    return (traits - traits.mean(0)) / np.maximum(traits.std(0), 1e-12)


def _background(
    chrom: np.ndarray, traits: np.ndarray, linked: np.ndarray, n: int, seed: int
) -> np.ndarray:
    """The ``n`` peaks of other chromosomes most like each linked peak, ``(n_linked, n)``."""
    traits = traits + np.random.default_rng(seed).uniform(-1e-6, 1e-6, size=traits.shape)
    others_of = {
        name: np.flatnonzero((chrom != name) & (chrom != "")) for name in np.unique(chrom[linked])
    }
    fewest, name = min(((len(others), name) for name, others in others_of.items()), default=(n, ""))
    found = f"found {fewest} varying peaks on chromosomes other than {name!r}"
    if fewest < _LEAST_BACKGROUND:
        problem = f"Expected at least {_LEAST_BACKGROUND} peaks for the background of a link,"
        raise InputValueError(f"{problem} {found}.")
    if fewest < n:
        problem = f"Expected {n} peaks for the background of each link, {found}: p-values of fewer"
        warnings.warn(f"{problem} are coarser.", UserWarning, stacklevel=3)
    n = min(n, fewest)
    background = np.empty((len(linked), n), dtype=np.int64)
    for name, others in others_of.items():
        here = chrom[linked] == name
        search = NearestNeighbors(n_neighbors=n).fit(traits[others])
        nearest = search.kneighbors(traits[linked[here]], return_distance=False)
        background[here] = others[nearest]
    return background


def _log(adata: AnnData, names: pd.Index, what: str) -> sp.csr_matrix:
    """Log1p counts per 10k, features as rows, metacells in the order of ``names``."""
    counts = counts_of(adata[names], None, f"`{what}`, ", stacklevel=0)
    return sp.csr_matrix(log_normalise(counts, np.float64).T)


def _shared_names(objects: dict[str, AnnData]) -> pd.Index:
    for what, adata in objects.items():
        check_anndata(adata, what)
        names_of = f"names of metacells in `{what}`"
        check_unique(adata.obs_names, names_of, f"{what}.obs_names_make_unique()")
    rna, atac = (adata.obs_names for adata in objects.values())
    names = rna[rna.isin(atac)]
    if len(names) < 3:
        raise InputValueError(
            f"Expected at least 3 metacells in both modalities, found {len(names)}: "
            f"`rna_metacells` has {list(rna[:3])}, ..., `atac_metacells` {list(atac[:3])}, ...",
            "Aggregate both by one assignment.",
        )
    return names


def gene_starts(var: pd.DataFrame) -> pd.DataFrame:
    """``chrom``, transcription start site ``tss`` and ``forward`` of genes; unknown: ``""``."""
    absent = [name for name in [*_COLUMNS, "strand"] if name not in var]
    if absent:
        raise InputKeyError(
            f"Expected `rna_metacells.var` to hold {[*_COLUMNS, 'strand']}, found no {absent}. "
            f"Columns there: {sorted(map(str, var.columns))}.",
            "Join a table of gene coordinates.",
        )
    text = var["strand"].astype(object).map(lambda value: str(value).strip())
    odd = sorted(set(text) - _STRANDS.keys() - _NO_STRAND)
    if odd:
        problem = f'Expected "+" or "-" in `rna_metacells.var["strand"]`, found {odd[:3]}.'
        raise InputValueError(problem, "Rename the strands; genes without one are left out.")
    strand = text.map(lambda value: _STRANDS.get(value, 0)).to_numpy(dtype=np.int64)
    places = _places(var)
    places["tss"] = np.where(strand > 0, places["start"], places["end"])
    places["forward"] = strand > 0
    places.loc[strand == 0, "chrom"] = ""
    _check_any(places, "genes", "rna_metacells", ", or `strand` empty")
    return places[["chrom", "tss", "forward"]]


def peak_places(var: pd.DataFrame) -> pd.DataFrame:
    """Places of peaks: the columns ``chrom``, ``start``, ``end``, else read from their names."""
    if not set(_COLUMNS) <= set(var.columns):
        matches = [_NAME.fullmatch(str(name)) for name in var.index]
        unread = [str(name) for name, match in zip(var.index, matches, strict=True) if not match]
        if unread:
            raise InputValueError(
                f'Expected peaks named like "chr1:100-200", or the columns {_COLUMNS} in '
                f"`atac_metacells.var`, found {len(unread)} other names, e.g. {unread[0]!r}."
            )
        var = pd.DataFrame([match.groupdict() for match in matches if match])
    places = _places(var)
    _check_any(places, "peaks", "atac_metacells")
    return places


def _check_any(places: pd.DataFrame, features: str, owner: str, also: str = "") -> None:
    if (places["chrom"] == "").all():
        raise InputValueError(
            f"Expected {features} with a place in `{owner}.var`, found `chrom` empty, `start` or "
            f"`end` no numbers, negative or in the wrong order{also} for all {len(places)}."
        )


def check_chromosomes(genes: pd.DataFrame, peaks: pd.DataFrame) -> None:
    """Refuse genes and peaks that share no chromosome, as when one says "1" and one "chr1"."""
    of_genes, of_peaks = (sorted(set(frame["chrom"]) - {""}) for frame in (genes, peaks))
    if not set(of_genes) & set(of_peaks):
        problem = "Expected genes and peaks on chromosomes of the same names, found"
        raise InputValueError(f"{problem} genes on {of_genes[:3]} and peaks on {of_peaks[:3]}.")


def _places(frame: pd.DataFrame) -> pd.DataFrame:
    """Chromosome as text, "" where the place is unknown; start and end as integers."""
    start, end = (pd.to_numeric(frame[name], errors="coerce") for name in ("start", "end"))
    chrom = frame["chrom"].astype(object)
    known = (chrom.notna() & (start >= 0) & (end >= start) & (end < _FARTHEST)).to_numpy(bool)
    columns = {
        "chrom": np.where(known, chrom.astype(str), ""),
        "start": np.where(known, start, -1).astype(np.int64),
        "end": np.where(known, end, -1).astype(np.int64),
    }
    return pd.DataFrame(columns)


def near_pairs(genes: pd.DataFrame, peaks: pd.DataFrame, window: int) -> pd.DataFrame:
    """Positions and ``distance`` of genes and peaks within ``window``, along the genome."""
    found = [pd.DataFrame({"gene": [], "peak": [], "distance": []}, dtype=np.int64)]
    for chrom in {*genes["chrom"]} & {*peaks["chrom"]} - {""}:
        near_by = genes[genes["chrom"] == chrom]
        # peaks sorted by start, a range of them for each gene
        there = peaks[peaks["chrom"] == chrom].sort_values(["start", "end"])
        tss, starts, ends = (of.to_numpy() for of in (near_by["tss"], there["start"], there["end"]))
        first = np.searchsorted(starts, tss - window - (ends - starts).max(), side="left")
        counts = np.searchsorted(starts, tss + window, side="right") - first
        gene = np.repeat(np.arange(len(tss)), counts)
        peak = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts) + first[gene]
        # to the right of the site positive, to the left negative, covering it zero
        offset = np.maximum(starts[peak] - tss[gene], 0) + np.minimum(ends[peak] - tss[gene], 0)
        pairs = pd.DataFrame({"gene": near_by.index[gene], "peak": there.index[peak]})
        pairs["distance"] = np.where(near_by["forward"].to_numpy()[gene], offset, -offset)
        found.append(pairs[np.abs(offset) <= window])
    return pd.concat(found).sort_values("gene", kind="stable", ignore_index=True)
