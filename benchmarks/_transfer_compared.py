"""Whether labels of one method are better than those of another by more than the cells drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

N_DRAWS: Final = 1000
"""Number of bootstrap samples of the cells of a query."""
SCORES: Final = ("weighted_f1", "macro_f1")
VERDICTS: Final = ("ahead", "level", "behind")


@dataclass(frozen=True)
class Labelled:
    """Labels that a method gave to the cells of a query."""

    query: np.ndarray
    """Which cells these are, a mask over all."""
    truth: np.ndarray
    found: np.ndarray


Labels = Mapping[tuple[str, str, int], Labelled]
"""By method, split and seed."""


def compared(labels: Labels, ours: str) -> Iterator[dict[str, Any]]:
    """Differences of F1 between ``ours`` and each other method, by split, with 95 % intervals.

    Intervals are of cells of the query, drawn with replacement. Runs of the same seed make a pair;
    a method with fewer seeds is paired with all of ours that label the same cells.
    """
    for method, split in dict.fromkeys((m, s) for m, s, _ in labels if m != ours):
        pairs = list(pairs_of(labels, (ours, method), split))
        if pairs:
            draws = [differences(mine, other) for mine, other in pairs]
            yield {
                "method": method,
                "split": split,
                "n_cells": len(pairs[0][0].truth),
                "n_pairs": len(pairs),
                **{name: verdict(np.mean([d[name] for d in draws], 0)) for name in SCORES},
            }


def pairs_of(
    labels: Labels, methods: tuple[str, str], split: str
) -> Iterator[tuple[Labelled, Labelled]]:
    """What two methods say of the same cells, seed by seed."""
    ours, other = ({seed: r for (m, s, seed), r in labels.items() if (m, s) == (method, split)}
                   for method in methods)  # fmt: skip
    for seed, mine in ours.items():
        theirs = other.get(seed, next(iter(other.values())))
        if np.array_equal(mine.query, theirs.query):
            yield mine, theirs


def differences(mine: Labelled, other: Labelled) -> dict[str, np.ndarray]:
    """F1 of one minus that of the other: first of all cells, then of bootstrap samples."""
    n_cells = len(mine.truth)
    drawn = np.random.default_rng(0).multinomial(n_cells, np.full(n_cells, 1 / n_cells), N_DRAWS)
    weights = np.vstack([np.ones(n_cells, int), drawn]).astype(np.float64)  # (1 + draws) x cells
    of_mine, of_other = (f1(labelled, weights) for labelled in (mine, other))
    return {name: of_mine[name] - of_other[name] for name in SCORES}


def f1(labelled: Labelled, weights: np.ndarray) -> dict[str, np.ndarray]:
    """F1 with cells counted by weight, one number per row of weights."""
    types = np.unique(labelled.truth)
    truth, found = (names[:, None] == types for names in (labelled.truth, labelled.found))
    n_true, n_found, n_right = (weights @ mask for mask in (truth, found, truth & found))
    per_type = 2 * n_right / np.maximum(n_true + n_found, 1)  # draws x types
    return {
        "weighted_f1": (per_type * n_true).sum(1) / n_true.sum(1),
        "macro_f1": per_type.sum(1, where=n_true > 0) / (n_true > 0).sum(1),
    }


def verdict(draws: np.ndarray) -> dict[str, Any]:
    """Difference, its interval, and what it says."""
    low, high = np.quantile(draws[1:], [0.025, 0.975])
    found = "ahead" if low > 0 else "behind" if high < 0 else "level"
    numbers = {"difference": draws[0], "low": low, "high": high}
    return {name: round(float(x), 5) for name, x in numbers.items()} | {"verdict": found}


def comparison_table(comparisons: list[dict[str, Any]], runs: pd.DataFrame, ours: str) -> str:
    """In how many splits ``ours`` is better than each method, level with it and worse."""
    lines = ["| compared with | splits | weighted F1 | macro F1 | AUROC higher | worse in |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | --- |")
    for method in dict.fromkeys(row["method"] for row in comparisons):
        rows = [row for row in comparisons if row["method"] == method]
        counts = [" / ".join(map(str, counted(rows, score))) for score in SCORES]
        behind = [
            f"{row['dataset']} {row['split']} ({score[:-3]}, {row[score]['difference']:.3f})"
            for row in rows
            for score in SCORES
            if row[score]["verdict"] == "behind"
        ]
        cells = [method, str(len(rows)), *counts, auroc(runs, (ours, method)), "; ".join(behind)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def counted(rows: list[dict[str, Any]], score: str) -> list[int]:
    """Splits by verdict."""
    return [sum(row[score]["verdict"] == name for row in rows) for name in VERDICTS]


def auroc(runs: pd.DataFrame, methods: tuple[str, str]) -> str:
    """Splits where the first method's AUROC is higher, and means, over tasks that both have."""
    task = ["dataset", "split", "held_out", "seed"]
    known = runs.dropna(subset=["auroc"])
    ours, other = (known[known["method"] == method].set_index(task)["auroc"] for method in methods)
    both = pd.concat({"ours": ours, "other": other}, axis=1, join="inner")
    if both.empty:
        return ""
    of_split = both.groupby(["dataset", "split"]).mean()
    means = of_split.groupby("dataset").mean().mean()
    n_higher = int((of_split["ours"] > of_split["other"]).sum())
    return f"{n_higher} of {len(of_split)} ({means['ours']:.3f}, {means['other']:.3f})"
