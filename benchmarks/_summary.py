"""Runs condensed over seeds and over data sets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pandas as pd

# metric: whether higher is better
COMPARED: Final[dict[str, bool]] = {
    "purity": True,
    "balanced_accuracy": True,
    "compactness": True,
    "separation": True,
    "size_cv": False,
    "cpu_seconds": False,
    "peak_mb": False,
}
OTHERS: Final = ("seconds", "n_metacells", "unassigned", "size_min", "size_max")


def over_seeds(
    runs: pd.DataFrame, names: Iterable[str] = (*COMPARED, *OTHERS)
) -> list[dict[str, Any]]:
    """Median and range of each number that all runs of a data set and method have."""
    names = list(names)
    return [
        {
            "dataset": dataset,
            "method": method,
            "seeds": sorted(map(int, of_pair["seed"])),
            **{
                name: spread(of_pair[name])
                for name in names
                if name in of_pair and of_pair[name].notna().all()
            },
        }
        for (dataset, method), of_pair in runs.groupby(["dataset", "method"], sort=False)
    ]


def spread(values: pd.Series) -> dict[str, float]:
    """Median and range."""
    numbers = {"median": values.median(), "min": values.min(), "max": values.max()}
    return {name: round(float(number), 6) for name, number in numbers.items()}


def over_sets(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Means over data sets, one comparison per distinct collection of sets that a method has.

    A mean is only comparable with one over the same sets: every comparison holds the methods that
    have all of its sets. The first is over all sets.
    """
    names = list(runs["dataset"].unique())
    covered = runs.groupby("method", sort=False)["dataset"].agg(frozenset)
    many = {sets for sets in covered if len(sets) > len(names) / 2}  # a mean over few says little
    collections = sorted({frozenset(names), *many}, key=len, reverse=True)
    comparisons = [
        {
            "datasets": [name for name in names if name in sets],
            "methods": [
                mean_over(runs[(runs["method"] == method) & runs["dataset"].isin(sets)])
                for method in covered.index[covered >= sets]
            ],
        }
        for sets in collections
    ]
    return [comparison for comparison in comparisons if comparison["methods"]]


def mean_over(runs: pd.DataFrame) -> dict[str, Any]:
    """Mean over data sets of one method's medians, with the range of the means by seed."""
    seeds = runs.groupby("dataset")["seed"].agg(set)
    common = runs[runs["seed"].isin(set.intersection(*seeds))]
    asked = runs.assign(n_metacells=runs["n_metacells"] / runs["n_metacells_asked"])
    return {
        "method": runs["method"].iloc[0],
        "seeds": sorted({len(of_set) for of_set in seeds}),
        "metacells_per_asked": round(median_mean(asked, "n_metacells"), 4),
        "unassigned": round(median_mean(runs, "unassigned"), 4),
        **{name: mean_spread(runs, common, name) for name in COMPARED},
    }


def median_mean(runs: pd.DataFrame, name: str) -> float:
    """Mean over data sets of the median over seeds."""
    return float(runs.groupby("dataset")[name].median().mean())


def mean_spread(runs: pd.DataFrame, common: pd.DataFrame, name: str) -> dict[str, float]:
    """Mean of medians, and the range it has together with the means of the single seeds."""
    centre = median_mean(runs, name)
    values = [centre, *common.groupby("seed")[name].mean()]
    numbers = {"median": centre, "min": min(values), "max": max(values)}
    return {key: round(float(number), 6) for key, number in numbers.items()}


def best(rows: Iterable[dict[str, Any]], name: str) -> dict[str, float] | None:
    """Spread of the row whose median is best."""
    sign = -1 if COMPARED[name] else 1
    return min((row[name] for row in rows), key=lambda of: sign * of["median"], default=None)


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two ranges over seeds share a value."""
    return one["min"] <= other["max"] and other["min"] <= one["max"]
