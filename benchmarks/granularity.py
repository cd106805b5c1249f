"""Is the suggested number of metacells sensible, and is a cut as good as a training: one command.

usage: python benchmarks/granularity.py --data DIR [--datasets ...] [--seeds 0 1 2]

Per data set and seed one model is trained with a metacell per 10 cells. ``choose_n_metacells``
suggests a number from it; cuts at a quarter to four times the suggestion say whether quality has
levelled off there. Cuts at one metacell per 25, 50 and 100 cells are compared with models trained
at these numbers. Runs that ``results/granularity.json`` has are not repeated, unless ``--again``
says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import anndata
import pandas as pd
import scvi
from _command_line import growing_command_line
from _datasets import DATASETS
from _in_process import Key, with_missing
from _markdown import Report, save, table
from quality import machine

from scmetaq import MetaQModel, metrics, tl

NAMES: Final = ("dataset", "what", "seed")
FINEST: Final = 10
"""Cells per metacell of the model that is cut."""
TRAINED: Final = (25, 50, 100)
"""Cells per metacell at which cuts are compared with trainings."""
FACTORS: Final = (0.25, 0.5, 1, 2, 4)
"""Multiples of the suggested number."""
SCORES: Final = ("purity", "accuracy", "balanced_accuracy", "compactness", "codebook_loss")


def main() -> None:
    """Run what is missing, then write results and tables."""
    args = command_line().parse_args()
    for records in with_missing(args.out, tasks(args), names=NAMES, again=args.again):
        results = {"machine": machine(), "runs": records}
        if records:
            save(args, "granularity", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    return growing_command_line(__doc__, DATASETS, out="granularity.json")


def tasks(args: argparse.Namespace) -> Iterator[tuple[Key, Callable[[], dict[str, Any]]]]:
    """All runs that were asked for, seed by seed."""
    for seed, name in itertools.product(args.seeds, args.datasets):
        adata, labels = DATASETS[name].read(args.data)
        yield (name, "cuts", seed), lambda of=(adata, labels), seed=seed: cuts(*of, seed)
        for cells in TRAINED:
            yield (
                (name, f"trained at 1 per {cells}", seed),
                lambda of=(adata, labels), seed=seed, cells=cells: trained(*of, seed, cells),
            )


def fitted(adata: anndata.AnnData, n_metacells: int, seed: int) -> MetaQModel:
    """Trained model of the cells."""
    adata = adata.copy()
    scvi.settings.seed = seed
    MetaQModel.setup_anndata(adata)
    model = MetaQModel(adata, n_metacells)
    model.train(accelerator="cpu", logger=False, enable_progress_bar=False)
    return model


def cuts(adata: anndata.AnnData, labels: pd.Series, seed: int) -> dict[str, Any]:
    """The curve, the suggestion, and scores of cuts around it and where others are trained."""
    model = fitted(adata, round(adata.n_obs / FINEST), seed)
    curve = tl.choose_n_metacells(model)
    suggested = curve.attrs["suggested"]
    around = {factor: round(suggested * factor) for factor in FACTORS}
    around = {f: k for f, k in around.items() if 2 <= k <= model.n_metacells}
    compared = {cells: round(adata.n_obs / cells) for cells in TRAINED}
    return {
        "n_cells": adata.n_obs,
        **curve.attrs,
        "curve": json.loads(curve.round(6).reset_index().to_json(orient="records")),
        "around": {str(f): scores(model, labels, k) for f, k in around.items()},
        "compared": {str(cells): scores(model, labels, k) for cells, k in compared.items()},
    }


def trained(adata: anndata.AnnData, labels: pd.Series, seed: int, cells: int) -> dict[str, Any]:
    """Scores of a model trained at a number."""
    model = fitted(adata, round(adata.n_obs / cells), seed)
    return {"n_cells": adata.n_obs, **scores(model, labels, model.n_metacells)}


def scores(model: MetaQModel, labels: pd.Series, n_metacells: int) -> dict[str, float]:
    """Scores of a cut."""
    assignment = model.get_assignments(n_metacells=n_metacells)["metacell"].to_numpy()
    quality = metrics.evaluate(model.adata, assignment, labels).groupby("metric")["value"].mean()
    found = {name: float(quality[name]) for name in SCORES[:-1]}
    report = model.get_granularity_report([n_metacells])
    found["codebook_loss"] = float(report["codebook_loss"].iloc[0])
    return {"n_metacells": n_metacells} | {name: round(v, 6) for name, v in found.items()}


def report(results: dict[str, Any]) -> Report:
    """Quality around the suggestion, and cuts compared with trainings."""
    done = [record for record in results["runs"] if record["what"] == "cuts"]
    return Report(_around(done), _compared(done, results["runs"]))


def _around(done: list[dict[str, Any]]) -> str:
    lines = []
    for name in dict.fromkeys(record["dataset"] for record in done):
        of_set = [record for record in done if record["dataset"] == name]
        suggested = pd.Series([record["suggested"] for record in of_set]).median()
        per_metacell = of_set[0]["n_cells"] / suggested
        for score in ("purity", "accuracy", "balanced_accuracy"):
            cells = [_median(of_set, "around", f"{factor}", score) for factor in FACTORS]
            if set(cells) == {"-"}:  # not scored
                continue
            about = [name, score.replace("_", " "), str(len(of_set))]
            lines.append([*about, f"{suggested:g}", f"{per_metacell:.0f}", *cells])
    head = ["data set", "score", "seeds", "suggested", "cells per metacell"]
    return table([*head, *(f"{f:g} x" for f in FACTORS)], lines, n_text=2)


def _median(records: list[dict[str, Any]], part: str, key: str, score: str) -> str:
    values = [record[part][key].get(score) for record in records if key in record[part]]
    return f"{pd.Series(values).median():.3f}" if values and None not in values else "-"


def _compared(done: list[dict[str, Any]], records: list[dict[str, Any]]) -> str:
    rows = [
        {"cells": cells, "dataset": record["dataset"]}
        | {f"cut {s}": record["compared"][f"{cells}"].get(s) for s in SCORES}
        | {f"trained {s}": other.get(s) for s in SCORES}
        for record, cells in itertools.product(done, TRAINED)
        for other in records
        if other["what"] == f"trained at 1 per {cells}"
        and (other["dataset"], other["seed"]) == (record["dataset"], record["seed"])
    ]
    if not rows:
        return ""
    by_set = pd.DataFrame(rows).set_index(["cells", "dataset"]).astype(float)
    by_set = by_set.groupby(["cells", "dataset"]).median()
    lines = []
    for cells, of_cells in by_set.groupby("cells"):
        for how in ("cut", "trained"):
            means = (of_cells[f"{how} {s}"].mean(skipna=False) for s in SCORES)
            shown = ["-" if pd.isna(mean) else f"{mean:.4g}" for mean in means]
            lines.append([str(cells), str(len(of_cells)), how, *shown])
    names = [score.replace("_", " ") for score in SCORES]
    intro = (
        "A model of one metacell per 10 cells, cut, and models trained at the number of the cut "
        "(medians over seeds, means over sets):"
    )
    head = ["cells per metacell", "sets", "model", *names]
    return f"{intro}\n\n{table(head, lines, n_text=3)}"


if __name__ == "__main__":
    main()
