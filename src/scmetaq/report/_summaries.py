"""Assignments, labels and conditions of the cells, read and counted per metacell."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputValueError
from scmetaq.metrics import balanced_accuracy, mixing, purity
from scmetaq.metrics._cell_values import cell_values, find_column
from scmetaq.metrics._groups import factorize, factorize_metacells


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
    colors: Sequence[str] | None
    """Colour of each category, if some are set."""


def read_assignments(data: AnnData | MuData, assignments: Any) -> pd.DataFrame:
    """Table with the metacell of each cell as text; of cells that are not in it, none."""
    if isinstance(assignments, pd.DataFrame):
        table = assignments
    elif isinstance(assignments, pd.Series):
        table = assignments.to_frame(_keys.METACELL)
    else:
        table = cell_values(data, assignments, what="assignments").to_frame(_keys.METACELL)
    if _keys.METACELL not in table:
        raise InputKeyError(
            f"Expected `assignments` with the column {_keys.METACELL!r}, found "
            f"{list(table.columns)}.",
            "Rename the column with metacells, or pass it as a Series.",
            "assignments",
        )
    _check_barcodes(data.obs_names, table.index)
    table = table.reindex(data.obs_names)
    metacells = factorize_metacells(table[_keys.METACELL])
    metacells = metacells.rename_categories(metacells.categories.astype(str))
    table[_keys.METACELL] = pd.Series(metacells, table.index).astype(object)
    return table


def _check_barcodes(cells: pd.Index, barcodes: pd.Index) -> None:
    if not barcodes.is_unique:
        repeated = barcodes[barcodes.duplicated()][0]
        problem = f"Expected each barcode once in `assignments`, found {repeated!r} repeatedly."
        raise InputValueError(problem, "Remove the repeats.", "assignments")
    if not barcodes.isin(cells).any():
        found = f"e.g. {barcodes[0]!r}" if len(barcodes) else "none"
        problem = f"Expected `assignments` by barcode (e.g. {cells[0]!r}), found others ({found})."
        raise InputValueError(problem, "Index them by `obs_names`.", "assignments")


def find_labels(
    data: AnnData | MuData, key: str, *, what: str
) -> tuple[pd.Series, Sequence[str] | None]:
    """Labels of cells as categories that are text, in order, and their colours of ``uns``."""
    owner, column = find_column(data, key, what=what)
    values = cell_values(data, key, what=what)
    if not isinstance(values.dtype, pd.CategoricalDtype):
        values = pd.Series(factorize(values), values.index, name=values.name)
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
    assignment: pd.Series,
    conditions: pd.Series,
    labels: pd.Series | None = None,
    *,
    colors: Sequence[str] | None = None,
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
    categories = pd.DataFrame(columns)
    return ConditionSummary(
        str(conditions.name),
        counts.loc[names],
        None if groups is None else groups.loc[names],
        categories,
        mixed.mixing,
        mixed.one_condition,
        colors,
    )
