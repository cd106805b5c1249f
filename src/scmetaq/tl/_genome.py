"""Where genes and peaks lie, and which are near each other."""

import re
from typing import Final

import numpy as np
import pandas as pd

from scmetaq._errors import InputKeyError, InputValueError

_COLUMNS: Final = ["chrom", "start", "end"]
_FARTHEST: Final = 2**53
"""Base pairs; beyond this, and at infinity, decimal numbers are no places."""
_STRANDS: Final = {"+": 1, "1": 1, "1.0": 1, "-": -1, "-1": -1, "-1.0": -1}
_NO_STRAND: Final = {"", "*", ".", "nan", "None", "<NA>"}
_NAME: Final = re.compile(r"(?P<chrom>.+?)[:_-](?P<start>\d+)[_-](?P<end>\d+)")


def gene_starts(var: pd.DataFrame) -> pd.DataFrame:
    """``chrom``, transcription start site ``tss`` and ``forward`` of genes; unknown: ``""``."""
    absent = [name for name in [*_COLUMNS, "strand"] if name not in var]
    if absent:
        raise InputKeyError(
            f"Expected `rna_metacells.var` to hold {[*_COLUMNS, 'strand']}, found no {absent}. "
            f"Columns there: {sorted(map(str, var.columns))}.",
            "Join a table of gene coordinates.",
            "rna_metacells",
        )
    places, strand = _places(var), _strands(var["strand"])
    places["tss"] = np.where(strand > 0, places["start"], places["end"])
    places["forward"] = strand > 0
    places.loc[strand == 0, "chrom"] = ""
    _check_any(places, "genes", "rna_metacells", ", or `strand` empty")
    return places[["chrom", "tss", "forward"]]


def peak_places(var: pd.DataFrame) -> pd.DataFrame:
    """Places of peaks: the columns ``chrom``, ``start``, ``end``, else read from their names."""
    if not set(_COLUMNS) <= set(var.columns):
        var = _read_names(var.index)
    places = _places(var)
    _check_any(places, "peaks", "atac_metacells")
    return places


def _read_names(names: pd.Index) -> pd.DataFrame:
    matches = [_NAME.fullmatch(str(name)) for name in names]
    unread = [str(name) for name, match in zip(names, matches, strict=True) if match is None]
    if unread:
        raise InputValueError(
            f'Expected peaks named like "chr1:100-200", or the columns {_COLUMNS} in '
            f"`atac_metacells.var`, found {len(unread)} other names, e.g. {unread[0]!r}.",
            argument="atac_metacells",
        )
    return pd.DataFrame([match.groupdict() for match in matches if match is not None])


def _check_any(places: pd.DataFrame, features: str, owner: str, also: str = "") -> None:
    if (places["chrom"] == "").all():
        raise InputValueError(
            f"Expected {features} with a place in `{owner}.var`, found `chrom` empty, `start` or "
            f"`end` no numbers, negative or in the wrong order{also} for all {len(places)}.",
            "Join a table of their coordinates.",
            owner,
        )


def _strands(strand: pd.Series) -> np.ndarray:
    """1 for the plus strand, -1 for the minus one, 0 where it is unknown."""
    text = strand.astype(object).map(lambda value: str(value).strip())
    odd = sorted(set(text) - _STRANDS.keys() - _NO_STRAND)
    if odd:
        raise InputValueError(
            f'Expected "+" or "-" in `rna_metacells.var["strand"]`, found {odd[:3]}.',
            "Rename the strands; genes without one are left out.",
            "rna_metacells",
        )
    return text.map(lambda value: _STRANDS.get(value, 0)).to_numpy(dtype=np.int64)


def check_chromosomes(genes: pd.DataFrame, peaks: pd.DataFrame) -> None:
    """Refuse genes and peaks that share no chromosome, as when one says "1" and one "chr1"."""
    of_genes, of_peaks = (sorted(set(frame["chrom"]) - {""}) for frame in (genes, peaks))
    if not set(of_genes) & set(of_peaks):
        raise InputValueError(
            f"Expected genes and peaks on the same chromosomes, found genes on {of_genes[:3]} and "
            f"peaks on {of_peaks[:3]}.",
            "Spell the names alike in both.",
        )


def _places(frame: pd.DataFrame) -> pd.DataFrame:
    """Chromosome as text, "" where the place is unknown; start and end as integers."""
    start, end = (pd.to_numeric(frame[name], errors="coerce") for name in ("start", "end"))
    chrom = frame["chrom"].astype(object)
    known = (chrom.notna() & (start >= 0) & (end >= start) & (end < _FARTHEST)).to_numpy(bool)
    return pd.DataFrame(
        {
            "chrom": np.where(known, chrom.astype(str), ""),
            "start": np.where(known, start, -1).astype(np.int64),
            "end": np.where(known, end, -1).astype(np.int64),
        }
    )


def near_pairs(genes: pd.DataFrame, peaks: pd.DataFrame, window: int) -> pd.DataFrame:
    """All pairs of a gene and a peak at most ``window`` base pairs from its start site.

    Positions of both, and ``distance``: base pairs from the start site to the nearest end of the
    peak, negative upstream, zero where the peak covers it. By gene, then along the genome.
    """
    found = [
        _near_pairs_of_one(genes.iloc[rows], rows, peaks, of_chrom, window)
        for chrom, rows in genes.groupby("chrom", observed=True).indices.items()
        if chrom != "" and len(of_chrom := np.flatnonzero(peaks["chrom"] == chrom)) > 0
    ]
    empty = pd.DataFrame({"gene": [], "peak": [], "distance": []}, dtype=np.int64)
    return pd.concat([empty, *found]).sort_values("gene", kind="stable", ignore_index=True)


def _near_pairs_of_one(
    genes: pd.DataFrame, rows: np.ndarray, peaks: pd.DataFrame, of_chrom: np.ndarray, window: int
) -> pd.DataFrame:
    """Pairs on one chromosome: peaks sorted by start, a range of them for each gene."""
    starts, ends = (peaks[name].to_numpy()[of_chrom] for name in ("start", "end"))
    order = np.lexsort((ends, starts))
    of_chrom, starts, ends = of_chrom[order], starts[order], ends[order]
    tss = genes["tss"].to_numpy()
    widest = int((ends - starts).max())
    first = np.searchsorted(starts, tss - window - widest, side="left")
    counts = np.searchsorted(starts, tss + window, side="right") - first
    gene = np.repeat(np.arange(len(rows)), counts)
    peak = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts) + first[gene]
    # to the right of the site positive, to the left negative, covering it zero
    offset = np.maximum(starts[peak] - tss[gene], 0) + np.minimum(ends[peak] - tss[gene], 0)
    near = np.abs(offset) <= window
    distance = np.where(genes["forward"].to_numpy()[gene], offset, -offset)
    return pd.DataFrame(
        {"gene": rows[gene[near]], "peak": of_chrom[peak[near]], "distance": distance[near]}
    )
