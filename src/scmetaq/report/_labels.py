"""How metacells keep the labels of their cells."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq.metrics import balanced_accuracy, purity
from scmetaq.metrics._cell_values import cell_values, find_column


class LabelSummary(NamedTuple):
    """Metacells and labels of one column.

    Attributes
    ----------
    key
        Column of ``obs``.
    metacells
        Indexed by metacell: majority label (``<key>``) and its fraction (``<key>_fraction``).
    labels
        Indexed by label: ``n_cells``, ``n_metacells`` of which it is the majority, and ``kept``,
        the fraction of its cells that are in those.
    purity, balanced_accuracy
        Means of the two fractions.
    """

    key: str
    metacells: pd.DataFrame
    labels: pd.DataFrame
    purity: float
    balanced_accuracy: float

    @property
    def lost(self) -> list[str]:
        """Labels that are the majority of no metacell."""
        return [str(name) for name in self.labels.index[self.labels["n_metacells"] == 0]]


def find_labels(
    data: AnnData | MuData, key: str, *, what: str
) -> tuple[pd.Series, Sequence[str] | None]:
    """Labels of all cells and, as in scanpy's ``uns``, their colours.

    Parameters
    ----------
    data
        The cells.
    key
        Column of ``obs``; of a MuData also of a modality, as in ``"rna:cell_type"``. Cells that
        lack the modality lack the label.
    what
        Argument that names the column.

    Raises
    ------
    KeyError
        No such column.
    """
    owner, column = find_column(data, key, what=what)
    labels = as_labels(cell_values(data, key, what=what))
    return labels, owner.uns.get(f"{column}_colors")


def as_labels(column: pd.Series) -> pd.Series:
    """Labels as categories that are text, in the order of the column if it has one."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.rename_categories(column.cat.categories.astype(str))
    return as_text(column).astype("category")


def as_text(column: pd.Series) -> pd.Series:
    """Names as text, missing ones missing; integers that came as floats without their point."""
    numbers = column.dropna()
    if pd.api.types.is_float_dtype(column) and (numbers == numbers.round()).all():
        column = column.astype("Int64")
    return column.astype(object).where(column.notna(), None).map(str, na_action="ignore")


def summarize_labels(assignment: pd.Series, labels: pd.Series) -> LabelSummary:
    """Count, per metacell and per label, the cells of each.

    Parameters
    ----------
    assignment
        Metacell of each cell, as text; missing: left out.
    labels
        Label of each cell, as categories that are text, with the name of their column; missing:
        left out.
    """
    key = str(labels.name)
    table = pd.crosstab(assignment.to_numpy(), labels.astype(object).to_numpy())  # K x C
    majority = table.idxmax(axis=1)
    metacells = pd.DataFrame(
        {
            # all categories, so that a label has one colour in all pictures
            key: pd.Categorical(majority, categories=labels.cat.categories),
            f"{key}{_keys.FRACTION_SUFFIX}": table.max(axis=1) / table.sum(axis=1),
        },
        index=table.index,
    )
    values, columns = table.to_numpy(), table.columns.get_indexer(majority)
    kept = np.bincount(
        columns, weights=values[np.arange(len(values)), columns], minlength=len(table.columns)
    )
    per_label = pd.DataFrame(
        {
            "n_cells": table.sum(),
            "n_metacells": np.bincount(columns, minlength=len(table.columns)),
            "kept": kept / table.sum(),
        }
    )
    return LabelSummary(
        key,
        metacells,
        per_label.sort_values("n_cells", ascending=False, kind="stable"),
        float(purity(assignment, labels).mean()),
        balanced_accuracy(assignment, labels),
    )
