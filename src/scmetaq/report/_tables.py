"""Numbers of the report, in rows to be read."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from scmetaq import _keys

N_SHOWN = 10
"""Metacells listed for a second look."""

QUALITY = {
    "compactness": "mean correlation of a cell with the cells of its metacell",
    "separation": "mean distance (1 − correlation) of a cell to the nearest cell of another "
    "metacell",
    "purity": "share of a metacell's cells with its most frequent label",
    "balanced_accuracy": "share of a label's cells in metacells where it is the majority; "
    "the mean over labels, so that rare ones count as much as frequent ones",
}
SIZES = {
    "n_metacells": "metacells",
    "size_median": "cells per metacell, median",
    "size_min": "cells in the smallest",
    "size_max": "cells in the largest",
    "size_cv": "standard deviation of sizes over their mean",
    "unassigned": "cells without a metacell",
}
QUANTIZATION = {
    "reconstruction_ratio": "loss of counts decoded from cells over that from codes: 1 if nothing "
    "is lost by quantization",
    "mean_margin": "mean lead of a cell's code over the second best, in similarity",
    "perplexity": "effective number of metacells, by their shares of the cells",
    "codebook_loss": "squared distance of cells to their codes, per dimension",
    "n_empty": "codes without any cell",
}
_WEIGHTED = ("compactness", "separation")


class Row(NamedTuple):
    """One line of the table of quality."""

    name: str
    value: str
    middle: str
    better: str
    meaning: str


def quality_rows(metrics: pd.DataFrame) -> list[Row]:
    """Rows of the table of ``scmetaq.metrics.evaluate``: what tells good metacells from bad."""
    per_metacell = metacell_values(metrics)
    rows = []
    for name, meaning in QUALITY.items():
        found = metrics[metrics["metric"] == name]
        if len(found):
            middle = _middle_half(per_metacell[name]) if name in per_metacell else ""
            value = decimal(found["value"].mean())
            rows.append(
                Row(name.replace("_", " "), value, middle, found["better"].iloc[0], meaning)
            )
    return rows


def size_rows(metrics: pd.DataFrame) -> list[tuple[str, str]]:
    """Number and sizes of metacells: what it is, and the number."""
    whole = metrics[metrics["metacell"].isna()].set_index("metric")["value"]
    return [(words, number(whole[name])) for name, words in SIZES.items() if name in whole]


def metacell_values(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per metacell, one column per metric, free of the papers' weights by size.

    Compactness and separation come multiplied by ``n_metacells * size / n_cells``, so that their
    plain mean is a mean over cells; that says nothing about a single metacell.
    """
    rows = metrics[metrics["metacell"].notna()]
    table = rows.pivot(index="metacell", columns="metric", values="value")
    weight = table[_keys.N_CELLS] / table[_keys.N_CELLS].mean()
    for name in _WEIGHTED:
        if name in table:
            table[name] = table[name] / weight
    return table


def quantization_rows(report: dict[str, float]) -> list[Row]:
    """Rows of a quantization report."""
    return [
        Row(name.removeprefix("n_").replace("_", " "), _formatted(name, report[name]), "", "", text)
        for name, text in QUANTIZATION.items()
        if name in report
    ]


def doubtful_metacells(
    values: pd.DataFrame, margin: pd.Series | None, majority: pd.DataFrame | None
) -> tuple[str, pd.DataFrame]:
    """Metacells whose cells are least sure of them, or, without margins, least alike.

    Parameters
    ----------
    values
        Metrics per metacell.
    margin
        Mean margin per metacell.
    majority
        Majority label and its fraction per metacell.

    Returns
    -------
    The column by which they were chosen, and at most ``N_SHOWN`` rows.
    """
    table = values[[_keys.N_CELLS, *(name for name in _WEIGHTED if name in values)]].copy()
    if majority is not None:
        key = str(majority.columns[0])
        table["majority label"] = majority[key].astype(object)
        table["purity"] = majority[f"{key}{_keys.FRACTION_SUFFIX}"]
    chosen_by = "compactness"
    if margin is not None:
        chosen_by = "mean margin"
        table.insert(1, chosen_by, margin)
    return chosen_by, table.sort_values(chosen_by, kind="stable").head(N_SHOWN)


def number(value: float) -> str:
    """Format a count or a size as it is read."""
    if not np.isfinite(value):
        return "–"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.3g}"


def decimal(value: float) -> str:
    """Format a score: three digits after the point, or two that say something."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:#.2g}"


def _formatted(name: str, value: float) -> str:
    return (number if name.startswith("n_") or name == "perplexity" else decimal)(value)


def _middle_half(values: pd.Series) -> str:
    low, high = np.nanpercentile(values, [25, 75])
    return f"{decimal(low)} – {decimal(high)}"
