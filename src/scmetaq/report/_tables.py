"""Assignments, labels and conditions of cells by metacell, and numbers in rows to be read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputValueError, check_unique
from scmetaq.metrics import balanced_accuracy, mixing, purity
from scmetaq.metrics._groups import as_categories, cell_values, factorize_metacells, find_column
from scmetaq.pl._metrics import own_values

QUALITY = {
    "compactness": "mean correlation of a cell with the cells of its metacell",
    "separation": "mean distance (1 − correlation) of a cell to the nearest cell of another "
    "metacell",
    "inv": "variance over mean of the features within a metacell: its 95th percentile, that is, "
    "how noisy the noisiest are",
    "inner_fold": "largest fold of a feature between a cell and its metacell, in doublings",
    "inner_stdev": "spread of a feature's log share within a metacell, in doublings",
    "euclidean_compactness": "variance of the embedding within a metacell",
    "euclidean_separation": "distance to the nearest metacell in the embedding",
    "silhouette": "how well metacells part the labels in the embedding; -1 to 1",
    "diffusion_compactness": "variance of the diffusion components within a metacell",
    "diffusion_separation": "distance to the nearest metacell in diffusion components",
    "divergence": "correlation of the features within a metacell over that of independent ones",
    "dubious": "share of metacells that seem to mix states; up to 0.07 is expected where none does",
    "purity": "share of a metacell's cells with its most frequent label",
    "accuracy": "share of cells whose metacell has their label as its most frequent one",
    "entropy": "disorder of the labels in a metacell, in nats; 0: a single label",
    "balanced_accuracy": "share of a label's cells in metacells where it is the majority; "
    "the mean over labels, so that rare ones count as much as frequent ones",
    "mixing": "how evenly a metacell mixes conditions; 1: as its label does in all cells",
    "one_condition": "share of cells in metacells of a single condition",
}
SIZES = {
    "n_metacells": "metacells",
    "size_median": "cells per metacell, median",
    "size_min": "cells in the smallest",
    "size_max": "cells in the largest",
    "size_cv": "standard deviation of sizes over their mean",
    "counts_cv": "standard deviation of the metacells' counts over their mean",
    "unassigned": "cells without a metacell",
}
QUANTIZATION = {
    "reconstruction_ratio": "loss of counts decoded from cells over that from codes: 1 if nothing "
    "is lost by quantization",
    "mean_margin": "mean margin of a cell's code over the second best",
    "perplexity": "effective number of metacells, by their shares of the cells",
    "codebook_loss": "squared distance of cells to their codes, per dimension",
    "n_empty": "codes without any cell",
}
TILES = [*list(SIZES)[:2], "unassigned", "compactness", "separation", "dubious", "purity"]
TILES += ["accuracy", "balanced_accuracy", "mixing"]
"""Metrics to see at once."""
_MODALITY = "modality"


class Row(NamedTuple):
    """A number in words.

    Values are one per modality, with the middle half of metacells, or one per method, with whether
    it is the best.
    """

    name: str
    values: list[Any]
    better: str
    meaning: str


class LabelSummary(NamedTuple):
    """Metacells and the labels of one column of ``obs``, ``key``."""

    key: str
    metacells: pd.DataFrame
    """Indexed by metacell: majority label (``<key>``) and its fraction (``<key>_fraction``)."""
    labels: pd.DataFrame
    """Indexed by label: ``n_cells``, ``n_metacells`` of which it is the majority, and ``kept``, the
    fraction of its cells that are in those."""
    purity: float
    balanced_accuracy: float

    @property
    def lost(self) -> list[str]:
        """Labels that are the majority of no metacell."""
        return [str(name) for name in self.labels.index[self.labels["n_metacells"] == 0]]


class ConditionSummary(NamedTuple):
    """Metacells and the categories of one column of ``obs``, ``key``, such as batches."""

    key: str
    counts: pd.DataFrame
    """Cells of each metacell and category, K x B; metacells by label, then by their mixing."""
    groups: pd.Series | None
    """Majority label of each metacell, in the same order; None without labels."""
    categories: pd.DataFrame
    """Indexed by category: ``n_cells``, ``n_metacells`` with cells of it, and ``alone``, the share
    of its cells in metacells that have no other."""
    mixing: float
    one_condition: float


def read_assignments(data: AnnData | MuData, assignments: Any) -> pd.DataFrame:
    """Table with the metacell of each cell as text; of cells that are not in it, none."""
    if isinstance(assignments, pd.DataFrame):
        table = assignments
    elif isinstance(assignments, pd.Series):
        table = assignments.to_frame(_keys.METACELL)
    else:
        table = cell_values(data, assignments, what="assignments").to_frame(_keys.METACELL)
    if _keys.METACELL not in table:
        problem = f"Expected `assignments` with the column {_keys.METACELL!r}, found"
        fix = "Rename the column with metacells, or pass it as a Series."
        raise InputKeyError(f"{problem} {list(table.columns)}.", fix, "assignments")
    cells, barcodes = data.obs_names, table.index
    check_unique(barcodes, "barcodes in `assignments`", "remove the repeats", "assignments")
    if not barcodes.isin(cells).any():
        found = f"e.g. {barcodes[0]!r}" if len(barcodes) else "none"
        problem = f"Expected `assignments` by barcode (e.g. {cells[0]!r}), found others ({found})."
        raise InputValueError(problem, "Index them by `obs_names`.", "assignments")
    table = table.reindex(cells)
    metacells = factorize_metacells(table[_keys.METACELL])
    metacells = metacells.rename_categories(metacells.categories.astype(str))
    table[_keys.METACELL] = pd.Series(metacells, table.index).astype(object)
    return table


def find_labels(
    data: AnnData | MuData, key: str, *, what: str
) -> tuple[pd.Series, Sequence[str] | None]:
    """Labels of cells as categories that are text, in order, and their colours of ``uns``."""
    owner, column = find_column(data, key, what=what)
    values = cell_values(data, key, what=what)
    if not isinstance(values.dtype, pd.CategoricalDtype):
        values = as_categories(values)
    labels = values.cat.rename_categories(values.cat.categories.astype(str))
    return labels, owner.uns.get(f"{column}_colors")


def summarize_labels(assignment: pd.Series, labels: pd.Series) -> LabelSummary:
    """Count, per metacell and per label, the cells of each; cells that lack either are left out."""
    key = str(labels.name)
    table = pd.crosstab(assignment.to_numpy(), labels.astype(object).to_numpy())  # K x C
    majority, largest = table.idxmax(axis=1), table.max(axis=1)
    metacells = pd.DataFrame(
        {
            # all categories, so that a label has one colour in all pictures
            key: pd.Categorical(majority, categories=labels.cat.categories),
            f"{key}{_keys.FRACTION_SUFFIX}": largest / table.sum(axis=1),
        },
        index=table.index,
    )
    of_label, n_cells = largest.groupby(majority.to_numpy()), table.sum()
    n_metacells = of_label.size().reindex(table.columns, fill_value=0)
    kept = of_label.sum().reindex(table.columns, fill_value=0) / n_cells
    per_label = pd.DataFrame({"n_cells": n_cells, "n_metacells": n_metacells, "kept": kept})
    per_label = per_label.sort_values("n_cells", ascending=False, kind="stable")
    mean = float(purity(assignment, labels).mean())
    return LabelSummary(key, metacells, per_label, mean, balanced_accuracy(assignment, labels))


def summarize_conditions(
    assignment: pd.Series, conditions: pd.Series, labels: pd.Series | None = None
) -> ConditionSummary:
    """Count, per metacell and per category of a condition, the cells of each."""
    mixed = mixing(assignment, conditions, labels)
    counts = pd.crosstab(assignment.to_numpy(), conditions.astype(object).to_numpy())  # K x B
    counts = counts.reindex(columns=conditions.cat.categories, fill_value=0)
    order = pd.DataFrame({"mixing": mixed.of_metacell.reindex(counts.index).fillna(-1.0)})
    order["largest"] = -counts.idxmax(axis=1).map(counts.columns.get_loc).astype(float)
    groups = None
    if labels is not None:
        of_cells = pd.crosstab(assignment.to_numpy(), labels.astype(object).to_numpy())
        groups = of_cells.idxmax(axis=1).reindex(counts.index).fillna("no label")
        frequent = groups.value_counts()
        order.insert(0, "label", groups.map(lambda name: (-frequent[name], name)))
    names = order.sort_values(list(order), kind="stable").index
    n_cells, is_there = counts.sum(), counts > 0
    alone = counts[is_there.sum(axis=1) == 1].sum() / np.maximum(n_cells, 1)
    columns = {"n_cells": n_cells, "n_metacells": is_there.sum(), "alone": alone}
    key, categories = str(conditions.name), pd.DataFrame(columns)
    groups, counts = None if groups is None else groups.loc[names], counts.loc[names]
    return ConditionSummary(key, counts, groups, categories, *mixed[:2])


def modalities(metrics: pd.DataFrame) -> list[str]:
    """Modalities that a table of ``scmetaq.metrics.evaluate`` is about; none of AnnData."""
    return [str(name) for name in metrics.get(_MODALITY, pd.Series()).dropna().unique()]


def of_modality(metrics: pd.DataFrame, name: str | None) -> pd.DataFrame:
    """Rows about a modality, as if there were no other; None: about the cells as a whole."""
    if _MODALITY not in metrics:
        return metrics
    column = metrics[_MODALITY]
    rows = metrics[column.isna() if name is None else column == name]
    return rows.drop(columns=_MODALITY)


def quality_rows(metrics: pd.DataFrame, names: Sequence[str | None] = (None,)) -> list[Row]:
    """Rows of the quality of the cells as a whole (None) or of modalities, one column each."""
    tables = [of_modality(metrics, name) for name in names]
    per_metacell = [_values(table) for table in tables]
    return metric_rows(tables, lambda name, *_: [_middle_half(of, name) for of in per_metacell])


def metric_rows(
    tables: Sequence[pd.DataFrame], describe: Callable[[str, list[float], str], Iterable[Any]]
) -> list[Row]:
    """A row for each metric, one column per table: the mean, and what goes with each mean."""
    rows = []
    for name, meaning in QUALITY.items():
        found = [table[table["metric"] == name] for table in tables]
        better = [direction for of in found for direction in of["better"]]
        if better:
            means = [float(of["value"].mean()) for of in found]
            of_means = describe(name, means, better[0])
            values = list(zip(map(decimal, means), of_means, strict=True))
            rows.append(Row(in_words(name), values, better[0], meaning))
    return rows


def tiles(metrics: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Numbers to see at once, from the table of :func:`scmetaq.metrics.evaluate`.

    Value (the mean over metacells), name, and the better direction, ``"higher"``, ``"lower"`` or
    none, of each.
    """
    found = []
    for metric in TILES:
        for name in (None, *modalities(metrics)):
            rows = of_modality(metrics, name)
            rows = rows[(rows["metric"] == metric) & rows["value"].notna()]
            if len(rows) and (metric != "unassigned" or rows["value"].any()):
                better = str(rows["better"].iloc[0])
                text = (number if metric in SIZES else decimal)(rows["value"].mean())
                of = "" if name is None else f", {name}"
                found.append((text, SIZES.get(metric, in_words(metric)) + of, better))
    return found


def size_rows(metrics: pd.DataFrame) -> list[tuple[str, str]]:
    """Number and sizes of metacells: what it is, and the number."""
    whole = metrics[metrics["metacell"].isna()].set_index("metric")["value"]
    return [(words, number(whole[name])) for name, words in SIZES.items() if name in whole]


def metacell_values(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per metacell, one column per metric (``compactness, rna``), without size weights."""
    parts = [_values(of_modality(metrics, None))]
    for name in modalities(metrics):
        part = _values(of_modality(metrics, name)).drop(columns=_keys.N_CELLS)
        parts.append(part.add_suffix(f", {name}"))
    return pd.concat(parts, axis=1)


def _values(metrics: pd.DataFrame) -> pd.DataFrame:
    rows = metrics[metrics["metacell"].notna()]
    rows = rows.assign(value=own_values(rows))
    return rows.pivot(index="metacell", columns="metric", values="value")


def quantization_rows(report: Mapping[str, float]) -> list[Row]:
    """Rows of a quantization report; of several modalities, theirs below those of all."""
    rows = []
    for name, text in QUANTIZATION.items():
        show = number if name in ("n_empty", "perplexity") else decimal
        for key in [key for key in report if key == name or key.startswith(f"{name}_")]:
            words = name.removeprefix("n_").replace("_", " ")
            of = key.removeprefix(name).replace("_", ", ")
            rows.append(Row(words + of, [(show(report[key]), "")], "", "" if of else text))
    return rows


def number(value: float) -> str:
    """Format a count or a size."""
    if not np.isfinite(value):
        return "–"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.3g}"


def decimal(value: float) -> str:
    """Format a score: three digits after the point, or two significant ones."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:#.2g}"


def in_words(metric: str) -> str:
    return {"inv": "INV", "dubious": "dubious share"}.get(metric, metric.replace("_", " "))


def _middle_half(per_metacell: pd.DataFrame, metric: str) -> str:
    if metric not in per_metacell or metric == "dubious" or per_metacell[metric].isna().all():
        return ""
    low, high = np.nanpercentile(per_metacell[metric], [25, 75])
    return f"{decimal(low)} – {decimal(high)}"
