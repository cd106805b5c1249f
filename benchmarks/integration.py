"""Compare how metacells mix batches: one command from counts to tables.

usage: python benchmarks/integration.py --data DIR [--methods ...] [--datasets ...] [--seeds 0 1 2]

As ``quality.py``: every (data set, method, seed) that the cache lacks is run in a process of its
own, then everything in the cache is scored and written to ``results/integration.json``, and as
tables to the README and ``results/integration.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
from _command_line import cache_folder, command_line, run_missing
from _datasets import DATASETS, Dataset
from _markdown import Report, save, table
from _methods import METHODS, Method
from _runs import Run, finished, with_kept
from _scores import about as about_run
from _summary import means_table, number, over_seeds
from quality import machine

from scmetaq import metrics

BATCH: Final = "batch"
SETS: Final[dict[str, Dataset]] = {
    name: DATASETS[name]
    for name in (
        "pbmc_3chemistries_1200_hvg",
        "sc_mixology_5batch",
        "kang_pbmc_labelled_1267genes",
        "pbmc_multibatch",
    )
}
AWARE: Final[dict[str, Method]] = {
    method.name: method
    for method in (
        Method(
            "scmetaq-conditions",
            "methods/run_scmetaq.py",
            "this package, with `batch_key`",
            flags=("--batch-key", BATCH),
        ),
        METHODS["scmetaq"],
        METHODS["kmeans-pca"],
        Method(
            "harmony-kmeans",
            "methods/run_harmony.py",
            "k-means on principal components corrected by Harmony",
            flags=("--batch-key", BATCH),
        ),
        Method(
            "scvi-batch-kmeans",
            "methods/run_scvi.py",
            "k-means on latents of scVI that knows the batches",
            flags=("--batch-key", BATCH),
        ),
        METHODS["metaq-authors"],
        METHODS["seacells"],
    )
}
SHOWN: Final = {
    "mixing": "mixing",
    "one_batch": "cells in one-batch metacells",
    "purity": "purity",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "size_cv": "size CV",
    "cpu_seconds": "CPU s",
}


def main() -> int:
    """Run what is missing, score what is there, write results and tables."""
    args = command_line(__doc__, AWARE, SETS, out="integration.json").parse_args()
    datasets = [SETS[name] for name in args.datasets if SETS[name].path(args.data).exists()]
    done, cache = run_missing(args, AWARE, datasets, args.data), cache_folder(args)
    new = [found for dataset in datasets for found in records_of(dataset, args.data, cache)]
    records = with_kept(new, args.out, AWARE, SETS)
    rows = over_seeds(pd.DataFrame(records), SHOWN)
    results = {"machine": machine(), "summary": rows, "runs": records, **done._asdict()}
    save(args, "integration", results, report(results))
    return 1 if done.failed else 0


def records_of(dataset: Dataset, folder: Path, cache: Path) -> list[dict[str, Any]]:
    """Records of the finished runs on one data set, which is read once."""
    runs = [run for method in AWARE.values() for run in finished(dataset, method, cache)]
    adata, labels = dataset.read(folder)
    return [record(run, adata, labels) for run in runs]


def record(run: Run, adata: anndata.AnnData, labels: pd.Series) -> dict[str, Any]:
    """Everything known about one run. Cells without a label or a metacell are left out."""
    assignment = np.load(run.file(".npy"))
    known = labels.notna().to_numpy() & (assignment >= 0)
    kinds, found = labels[known].astype(str).to_numpy(), assignment[known]
    mixed = metrics.mixing(found, adata.obs[BATCH].astype(str).to_numpy()[known], kinds)
    sizes = np.bincount(assignment[assignment >= 0])
    sizes = sizes[sizes > 0]
    scores = {
        "mixing": mixed.mixing,
        "one_batch": mixed.one_condition,
        "purity": metrics.purity(found, kinds).mean(),
        "accuracy": metrics.accuracy(found, kinds),
        "balanced_accuracy": metrics.balanced_accuracy(found, kinds),
        "size_cv": sizes.std() / sizes.mean(),
    }
    return {
        **about_run(run),
        **{name: round(float(value), 6) for name, value in scores.items()},
    }


def report(results: dict[str, Any]) -> Report:
    """Means over data sets, and a table per data set."""
    rows, parts = results["summary"], []
    for name in dict.fromkeys(row["dataset"] for row in rows):
        of_set = (
            [
                row["method"],
                str(len(row["seeds"])),
                *(number(row, key, ".0f" if key == "cpu_seconds" else ".3f") for key in SHOWN),
            ]
            for row in rows
            if row["dataset"] == name
        )
        parts += [f"## {name}", f"Labels {DATASETS[name].labels}."]
        parts.append(table(["method", "seeds", *SHOWN.values()], of_set, n_text=2))
    means = {key: name for key, name in SHOWN.items() if key != "cpu_seconds"}
    return Report(means_table(rows, means), "\n\n".join(parts))


if __name__ == "__main__":
    raise SystemExit(main())
