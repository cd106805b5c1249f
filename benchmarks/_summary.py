"""Summaries of runs over seeds and over data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from _markdown import table

# metric: whether higher is better
COMPARED: Final[dict[str, bool]] = {
    "purity": True,
    "accuracy": True,
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
        **{
            name: mean_spread(runs, common, name)
            for name in COMPARED
            if name in runs and runs[name].notna().all()
        },
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
    present = (row[name] for row in rows if name in row)
    return min(present, key=lambda of: sign * of["median"], default=None)


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two ranges over seeds share a value."""
    return one["min"] <= other["max"] and other["min"] <= one["max"]


def means_over_sets(
    rows: Sequence[Mapping[str, Any]], names: Iterable[str]
) -> list[dict[str, Any]]:
    """Per method the mean over data sets, each the mean over its splits, of medians over seeds.

    A number is left out where the method lacks it on one of its sets. Methods that were run on
    most sets come first: a mean only compares with one over the same sets.
    """
    names, means = list(names), []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        sets = list(dict.fromkeys(row["dataset"] for row in mine))
        seeds = [len(row["seeds"]) for row in mine]
        means.append({"method": method, "datasets": sets, "seeds": [min(seeds), max(seeds)]})
        for name in names:
            per_set = [
                np.mean(values)
                for of in sets
                if (values := [r[name]["median"] for r in mine if r["dataset"] == of and name in r])
            ]
            if len(per_set) == len(sets):
                means[-1][name] = round(float(np.mean(per_set)), 4)
    return sorted(means, key=lambda row: -len(row["datasets"]))


def means_table(rows: Sequence[Mapping[str, Any]], shown: Mapping[str, str]) -> str:
    """Table of :func:`means_over_sets`, a column per name in ``shown``."""
    return table(
        ["method", "sets", "seeds", *shown.values()],
        (
            [
                row["method"],
                str(len(row["datasets"])),
                " to ".join(map(str, dict.fromkeys(row["seeds"]))),
                *(number(row, name) for name in shown),
            ]
            for row in means_over_sets(rows, shown)
        ),
        n_text=3,
    )


def number(row: Mapping[str, Any], name: str, how: str = ".3f") -> str:
    """A number of a row, or its median over seeds; ``-`` if it has none."""
    if name not in row:
        return "-"
    value = row[name]["median"] if isinstance(row[name], dict) else row[name]
    return format(value, how)
