"""Metacells of a batch that is mapped, and of a training with it: from counts to a table.

usage: python benchmarks/mapping.py --data DIR [--datasets ...] [--seeds 0 1 2]

Each batch in turn is left out of training and mapped onto the model of the others. Scores are of
metacells of all cells: how they mix batches, and the share of cells of the batch whose metacell has
their label by majority of the other batches' cells. Compared with the same model before training of
the query (``without train()``), and with one trained on all batches and cut to as many metacells.
Sets with labels in only two batches are left out: a model of one batch estimates no effects of
batches. Runs that ``results/mapping.json`` has are repeated only with ``--again``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scvi
from _datasets import DATASETS, present
from _in_process import Key, with_missing
from _markdown import Report, save, table
from _summary import means_over_sets, number, spread
from label_transfer import BATCH, BATCHES
from new_cells import KEY, command_line
from quality import machine

import scmetaq
from scmetaq import metrics

SETS: Final = tuple(name for name in BATCHES if name != "pbmc_multibatch")
"""Sets with labels in three batches or more."""
HOW: Final = ("joint training", "without train()", "mapped")
SCORES: Final = ("mixing", "label")
QUIET: Final = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}


def main() -> None:
    """Do what is missing, write results and the table."""
    parser = command_line(__doc__, SETS, out="mapping.json")
    parser.add_argument("--again", action="store_true", help="run also what there is")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {"summary": []}
    names = ("dataset", "batch", "seed")
    for records in with_missing(args.out, tasks(args), names=names, again=args.again):
        results = {"machine": machine(), "summary": summary(records), "runs": records}
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    save(args, "mapping", results, report(results))


def tasks(args: Any) -> Iterator[tuple[Key, Callable[[], dict[str, float]]]]:
    """Every batch, and how to do it."""
    for seed in args.seeds:
        for dataset in present(args.datasets, args.data):
            for batch in cells_of(dataset.name, args.data).obs[BATCH].unique():
                key = (dataset.name, str(batch), seed)
                yield key, lambda key=key: scores(*key, args.data)


@lru_cache(maxsize=1)
def cells_of(name: str, folder: Path) -> anndata.AnnData:
    """Cells with a label."""
    adata, labels = DATASETS[name].read(folder)
    adata.obs = pd.DataFrame({BATCH: adata.obs[BATCH].astype(str), KEY: labels.astype(object)})
    return adata[adata.obs[KEY].notna().to_numpy()].copy()


def scores(name: str, batch: str, seed: int, folder: Path) -> dict[str, float]:
    """Mixing, and share of the cells of a batch that come to those of their label."""
    adata = cells_of(name, folder)
    is_query = (adata.obs[BATCH] == batch).to_numpy()
    cells, query = adata[~is_query].copy(), adata[is_query].copy()
    joint, model = trained_on_all(name, seed, folder), trained(cells, seed)
    of_joint = joint.get_assignments(n_metacells=model.n_metacells)["metacell"]
    found = {"joint training": of_joint.loc[adata.obs_names].astype(str).to_numpy()}
    scvi.settings.seed = seed
    mapped = scmetaq.MetaQModel.load_query_data(query, model)
    for how in HOW[1:]:
        if how == "mapped":
            mapped.train(**QUIET)
        assignment = pd.concat([of["metacell"] for of in map(assignments, (model, mapped))])
        found[how] = assignment.loc[adata.obs_names].to_numpy()
    return {
        name: round(float(value), 5)
        for how, assignment in found.items()
        for name, value in score(assignment, adata.obs, is_query, how).items()
    }


def assignments(model: scmetaq.MetaQModel) -> pd.DataFrame:
    """Assignments of the cells of a model, names of metacells being strings."""
    return model.get_assignments().astype({"metacell": str})


def trained(cells: anndata.AnnData, seed: int, **setup: str) -> scmetaq.MetaQModel:
    """A model that knows the batches."""
    scvi.settings.seed = seed
    scmetaq.MetaQModel.setup_anndata(cells, batch_key=BATCH, **setup)
    model = scmetaq.MetaQModel(cells, max(2, round(cells.n_obs / 50)))
    model.train(**QUIET)
    return model


@lru_cache(maxsize=1)
def trained_on_all(name: str, seed: int, folder: Path) -> scmetaq.MetaQModel:
    """A model of all batches."""
    return trained(cells_of(name, folder).copy(), seed)


def score(
    assignment: np.ndarray, obs: pd.DataFrame, is_query: np.ndarray, how: str
) -> dict[str, float]:
    """Scores of metacells of all cells; the majority is that of cells outside of the query."""
    kinds = obs[KEY].astype(str)
    mixed = metrics.mixing(assignment, obs[BATCH].to_numpy(), kinds.to_numpy())
    majority = kinds[~is_query].groupby(assignment[~is_query]).agg(lambda of: of.mode()[0])
    told = majority.reindex(assignment[is_query]).to_numpy()
    return {
        f"mixing {how}": mixed.mixing,
        f"label {how}": (told == kinds[is_query].to_numpy()).mean(),
    }


def summary(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median and range over seeds of each batch."""
    if not records:
        return []
    names = [f"{score} {how}" for how in HOW for score in SCORES]
    return [
        {
            "dataset": dataset,
            "batch": batch,
            "seeds": sorted(of_batch["seed"]),
            **{name: spread(of_batch[name]) for name in names},
        }
        for (dataset, batch), of_batch in pd.DataFrame(records).groupby(
            ["dataset", "batch"], sort=False
        )
    ]


def report(results: dict[str, Any]) -> Report:
    """Means over data sets, and a row per batch."""
    rows = results["summary"]
    names = [f"{score} {how}" for how in HOW for score in SCORES]
    heading = [f"{how}: {score}" for how in HOW for score in ("mixing", "label")]
    lines = (
        [row["dataset"], row["batch"], str(len(row["seeds"])), *(number(row, n) for n in names)]
        for row in rows
    )
    full = table(["data set", "batch", "seeds", *heading], lines, n_text=3)
    means = means_over_sets([row | {"method": ""} for row in rows], names)
    short = (
        [how, *(number(of, f"{score} {how}") for score in SCORES)] for of in means for how in HOW
    )
    return Report(table(["model", "mixing", "cells with their label"], short), full)


if __name__ == "__main__":
    main()
