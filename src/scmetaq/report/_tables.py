"""Numbers of the report, in rows to be read."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from scmetaq import _keys
from scmetaq.pl._metrics import WEIGHTED, own_values

N_SHOWN = 10
"""Metacells listed for a second look."""

QUALITY = {
    "compactness": "mean correlation of a cell with the cells of its metacell",
    "separation": "mean distance (1 − correlation) of a cell to the nearest cell of another "
    "metacell",
    "inv": "variance over mean of the features within a metacell: its 95th percentile, that is, "
    "how noisy the noisiest are",
    "diffusion_compactness": "variance of the diffusion components within a metacell",
    "diffusion_separation": "distance to the nearest metacell in diffusion components",
    "divergence": "correlation of the features within a metacell over that of independent ones",
    "dubious": "share of metacells that seem to mix states",
    "purity": "share of a metacell's cells with its most frequent label",
    "entropy": "disorder of the labels in a metacell, in nats; 0: a single label",
    "balanced_accuracy": "share of a label's cells in metacells where it is the majority; "
    "the mean over labels, so that rare ones count as much as frequent ones",
    "mixing": "how evenly a metacell mixes conditions; 1: as its label does in all cells",
    "one_condition": "share of cells in metacells of a single condition",
}
NAMES = {"inv": "INV"}
"""Names of metrics that are not their words."""
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
_MODALITY = "modality"


class Row(NamedTuple):
    """One line of the table of quality."""

    name: str
    value: str
    middle: str
    better: str
    meaning: str


class ModalityRow(NamedTuple):
    """One line of the table of quality of each modality: value and middle half per modality."""

    name: str
    values: list[tuple[str, str]]
    better: str
    meaning: str


def modalities(metrics: pd.DataFrame) -> list[str]:
    """Modalities that a table of ``scmetaq.metrics.evaluate`` is about; none of AnnData."""
    if _MODALITY not in metrics:
        return []
    return [str(name) for name in metrics[_MODALITY].dropna().unique()]


def of_modality(metrics: pd.DataFrame, name: str | None) -> pd.DataFrame:
    """Rows about a modality, as if there were no other; None: about the cells as a whole."""
    if _MODALITY not in metrics:
        return metrics
    column = metrics[_MODALITY]
    rows = metrics[column.isna() if name is None else column == name]
    return rows.drop(columns=_MODALITY)


def quality_rows(metrics: pd.DataFrame) -> list[Row]:
    """Rows of the table of ``scmetaq.metrics.evaluate``: what tells good metacells from bad."""
    per_metacell = metacell_values(metrics)
    rows = []
    for name, meaning in QUALITY.items():
        found = metrics[metrics["metric"] == name]
        if len(found):
            is_graded = name in per_metacell and name != "dubious"
            middle = _middle_half(per_metacell[name]) if is_graded else ""
            value = decimal(found["value"].mean())
            words = NAMES.get(name, name.replace("_", " "))
            rows.append(Row(words, value, middle, found["better"].iloc[0], meaning))
    return rows


def modality_rows(metrics: pd.DataFrame) -> list[ModalityRow]:
    """The same of each modality, side by side in the order of ``modalities``."""
    tables = [
        {row.name: row for row in quality_rows(of_modality(metrics, name))}
        for name in modalities(metrics)
    ]
    known = {name: row for table in tables for name, row in table.items()}
    return [
        ModalityRow(
            name,
            [(t[name].value, t[name].middle) if name in t else ("–", "") for t in tables],
            row.better,
            row.meaning,
        )
        for name, row in known.items()
    ]


def size_rows(metrics: pd.DataFrame) -> list[tuple[str, str]]:
    """Number and sizes of metacells: what it is, and the number."""
    whole = metrics[metrics["metacell"].isna()].set_index("metric")["value"]
    return [(words, number(whole[name])) for name, words in SIZES.items() if name in whole]


def metacell_values(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per metacell, one column per metric, free of the papers' weights by size.

    Of several modalities, those of each in columns of its own: ``compactness, rna``.
    """
    parts = [_values(of_modality(metrics, None))]
    for name in modalities(metrics):
        part = _values(of_modality(metrics, name)).drop(columns=_keys.N_CELLS)
        parts.append(part.add_suffix(f", {name}"))
    return pd.concat(parts, axis=1)


def _values(metrics: pd.DataFrame) -> pd.DataFrame:
    rows = metrics[metrics["metacell"].notna()]
    rows = rows.assign(value=own_values(rows))
    return rows.pivot(index="metacell", columns="metric", values="value")


def quantization_rows(report: dict[str, float]) -> list[Row]:
    """Rows of a quantization report; of several modalities, theirs below those of all."""
    rows = []
    for name, text in QUANTIZATION.items():
        for key in [key for key in report if key == name or key.startswith(f"{name}_")]:
            words = name.removeprefix("n_").replace("_", " ")
            of = key.removeprefix(name).replace("_", ", ")
            rows.append(Row(words + of, _formatted(name, report[key]), "", "", "" if of else text))
    return rows


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
    shown = [name for name in values if name.split(",")[0] in WEIGHTED]
    table = values[[_keys.N_CELLS, *shown]].copy()
    if majority is not None:
        key = str(majority.columns[0])
        table["majority label"] = majority[key].astype(object)
        table["purity"] = majority[f"{key}{_keys.FRACTION_SUFFIX}"]
    if margin is not None:
        table.insert(1, "mean margin", margin)
        return "mean margin", table.sort_values("mean margin", kind="stable").head(N_SHOWN)
    # of several modalities: the mean of ranks, since their scales differ
    rank = table[[name for name in shown if name.startswith("compactness")]].rank().mean(axis=1)
    return "compactness", table.loc[rank.sort_values(kind="stable").index].head(N_SHOWN)


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
