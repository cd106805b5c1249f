"""How metacells mix the categories of a condition."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from scmetaq.metrics import mixing


class ConditionSummary(NamedTuple):
    """Metacells and the categories of one condition, such as batches.

    Attributes
    ----------
    key
        Column of ``obs``.
    counts
        Cells of each metacell and category, K x B; metacells by label, then by their mixing.
    groups
        Majority label of each metacell, in the same order; None without labels.
    categories
        Indexed by category: ``n_cells``, ``n_metacells`` with cells of it, and ``alone``, the
        share of its cells in metacells that have no other.
    mixing, one_condition
        As of :func:`scmetaq.metrics.mixing`.
    colors
        Colour of each category, if some are set.
    """

    key: str
    counts: pd.DataFrame
    groups: pd.Series | None
    categories: pd.DataFrame
    mixing: float
    one_condition: float
    colors: Sequence[str] | None


def summarize_conditions(
    assignment: pd.Series,
    conditions: pd.Series,
    labels: pd.Series | None = None,
    *,
    colors: Sequence[str] | None = None,
) -> ConditionSummary:
    """Count, per metacell and per category, the cells of each.

    Parameters
    ----------
    assignment
        Metacell of each cell, as text; missing: left out.
    conditions
        Category of each cell, as categories that are text, with the name of their column;
        missing: left out.
    labels
        Label of each cell, to which mixing is relative.
    colors
        Colour of each category, in their order.
    """
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
    is_alone = (counts > 0).sum(axis=1) == 1
    n_cells = counts.sum()
    return ConditionSummary(
        str(conditions.name),
        counts.loc[names],
        None if groups is None else groups.loc[names],
        pd.DataFrame(
            {
                "n_cells": n_cells,
                "n_metacells": (counts > 0).sum(),
                "alone": counts[is_alone].sum() / np.maximum(n_cells, 1),
            }
        ),
        mixed.mixing,
        mixed.one_condition,
        colors,
    )
