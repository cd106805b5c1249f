"""The table of all metacells: their markers, whether they seem to mix states, and their order."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq.data._cells import BLOCK
from scmetaq.data._containers import readable
from scmetaq.metrics import dubious
from scmetaq.metrics._evaluate import tidy
from scmetaq.metrics._groups import Groups, group_cells
from scmetaq.metrics._log_counts import LogCounts
from scmetaq.pl._metrics import WEIGHTED

from ._pictures import counts_in
from ._tables import LabelSummary, modalities

N_MARKERS = 4
_LEAST_FOLD = 0.1  # difference of mean log counts above which a feature is a marker
N_GENES = 3_000  # most variable genes, for markers and for mixed states
MOST_TESTED = 2_000  # metacells tested for mixed states, a random sample of more: bounds time
_MOST_CELLS = 100  # cells of a metacell that are tested at most
_N_DRAWS = 1_400  # of the null for all metacells together, but five to 50 for each
_COMPARED = 20_000  # cells at most whose mean a metacell is compared with, a random sample of more
_DUBIOUS, _DIVERGENCE = "dubious", "divergence"


class Table(NamedTuple):
    """All metacells, those to look at first at the top."""

    columns: list[tuple[str, str]]  # name and kind of each: `"text"`, `"count"` or `"score"`
    rows: list[list[Any]]  # values of each metacell, the first its name; None: there is none
    places: list[list[Any]]  # middle of each in the picture of cells, in shares of width and height


def examine(
    adata: AnnData | MuData, assignment: pd.Series, metrics: pd.DataFrame, layer: str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics with a test for mixed states, and top markers of each metacell by modality.

    A test that ``metrics`` has stays. Otherwise it is that of :func:`scmetaq.metrics.dubious` with
    fewer genes, cells and permutations, so that its time is about that of the report's pictures.
    """
    adata = readable(adata)
    parts: dict[str | None, Any] = {None: adata}
    if isinstance(adata, MuData):
        parts = {name: adata.mod[name] for name in modalities(metrics) or adata.mod}
    is_tested = (metrics["metric"] == _DUBIOUS).any()
    frames, markers = [metrics], {}
    for name, part in parts.items():
        groups = group_cells(own := assignment.loc[part.obs_names])
        cells = np.flatnonzero(groups.codes >= 0)
        X = LogCounts(counts_in(part, layer), groups.codes).most_variable(N_GENES, cells)
        column = "top markers" if name is None else f"top markers, {name}"
        markers[column] = _markers(X, groups, part.var_names, cells)
        if not is_tested:
            modality = {} if name is None else {"modality": name}
            frames.append(tidy(_test(X, own, groups.names), {}, **modality))
    return pd.concat(frames, ignore_index=True), pd.DataFrame(markers)


def _test(X: LogCounts, assignment: pd.Series, names: pd.Index) -> list[pd.Series]:
    """Divergence of metacells, and whether it is dubious."""
    if len(names) > MOST_TESTED:
        names = pd.Index(np.random.default_rng(0).choice(names, MOST_TESTED, replace=False))
        assignment = assignment.where(assignment.isin(names))
    n_permutations = int(np.clip(-(-_N_DRAWS // len(names)), 5, 50))
    table = dubious(X, assignment, n_permutations=n_permutations, max_cells=_MOST_CELLS)
    return [table["statistic"].rename(_DIVERGENCE), table[_DUBIOUS]]


def _markers(X: LogCounts, groups: Groups, names: pd.Index, cells: np.ndarray) -> pd.Series:
    """Features whose mean log count in a metacell is furthest above that of all cells."""
    if len(cells) > _COMPARED:
        cells = np.sort(np.random.default_rng(0).choice(cells, _COMPARED, replace=False))
    expected = sum(block.sum(axis=0) for block in X.blocks(cells)) / len(cells)
    names = names if X.genes is None else names[X.genes]
    found = []
    for chosen, total in groups.sums(X, _sums, n_cells=BLOCK, shown_as="Markers"):
        folds = total / groups.sizes[chosen, None] - expected
        top = np.argsort(-folds, axis=1, kind="stable")[:, :N_MARKERS]
        found += [
            ", ".join(map(str, names[of[fold[of] > _LEAST_FOLD]]))
            for of, fold in zip(top, folds, strict=True)
        ]
    return groups.series(np.array(found, dtype=object), "markers")


def _sums(rows: sp.csr_array, starts: np.ndarray) -> np.ndarray:
    """Sums over the cells of each group, ``(n_groups, n_genes)``."""
    # a row of all entries of a group's cells: made dense, entries of one gene are summed
    ends = rows.indptr[[*starts, rows.shape[0]]]
    return sp.csr_array((rows.data, rows.indices, ends), (len(starts), rows.shape[1])).toarray()


def all_metacells(
    values: pd.DataFrame,
    markers: pd.DataFrame,
    labels: Sequence[LabelSummary],
    places: pd.DataFrame,
) -> Table:
    """Put all metacells in a table, in the order in which to look at them.

    First are those that seem to mix states and those of low purity: by the mean of their ranks in
    both, then by divergence. Of several modalities, the share in which states are mixed counts.
    """
    is_mixed = values.filter(regex=f"^{_DUBIOUS}")
    divergence = values.filter(regex=f"^{_DIVERGENCE}")
    ranks = [is_mixed.mean(axis=1).fillna(0).rank(ascending=False)]
    columns: dict[tuple[str, str], pd.Series] = {("cells", "count"): values[_keys.N_CELLS]}
    for i, of in enumerate(labels):
        purity = of.metacells[f"{of.key}{_keys.FRACTION_SUFFIX}"].reindex(values.index)
        ranks += [] if i else [purity.rank()]
        columns[of.key, "text"] = of.metacells[of.key].astype(object).reindex(values.index)
        columns["purity" if len(labels) == 1 else f"purity, {of.key}", "score"] = purity
    for name, column in markers.items():
        columns[str(name), "text"] = column.reindex(values.index)
    for name, column in is_mixed.items():
        told = column.map({1: "dubious", 0: "no"})
        known = values[str(name).replace(_DUBIOUS, _DIVERGENCE)].notna()
        columns[str(name), "text"] = told.where(known)
    for name in [name for name in values if name.split(",")[0] in WEIGHTED]:
        columns[name, "score"] = values[name]
    rank = pd.concat(ranks, axis=1).mean(axis=1)
    order = pd.DataFrame({"rank": rank, "tie": -divergence.rank().mean(axis=1)})
    names = order.sort_values(["rank", "tie"], kind="stable").index
    plain = [_plain(column.loc[names], kind) for (_, kind), column in columns.items()]
    at = [_plain(places[of].reindex(names), "score") for of in ("x", "y")]
    rows = [list(row) for row in zip(map(str, names), *plain, strict=True)]
    columns_all = [("metacell", "text"), *columns]
    return Table(columns_all, rows, [list(place) for place in zip(*at, strict=True)])


def _plain(values: pd.Series, kind: str) -> list[Any]:
    """Values that JSON has: of numbers four digits, None where there is none."""
    if kind == "text":
        return [None if pd.isna(value) else str(value) for value in values]
    read = int if kind == "count" else lambda value: float(f"{value:.4g}")
    return [read(value) if np.isfinite(value) else None for value in values]
