"""Compare metacell methods on labelled RNA data: one command from counts to tables.

usage: python benchmarks/quality.py --data DIR [--methods ...] [--datasets ...] [--seeds 0 1 2]

Every (data set, method, seed) that the cache lacks is run in a process of its own, one at a time
and on one thread. Then everything the cache holds for the data sets in DIR is scored and written
to the results file, and as tables to the README and ``results/rna.md``. ``--methods``,
``--datasets`` and ``--seeds`` choose what to run, not what to report. Runs that only the results
file has are kept there.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from _command_line import cache_folder, command_line, run_missing
from _datasets import CELLS_PER_METACELL, DATASETS, Dataset, present
from _markdown import save
from _methods import METHODS
from _runs import THREADS, cpu_model, finished, with_kept
from _scores import record
from _summary import over_seeds, over_sets
from _tables import report

PACKAGES = ("scmetaq", "scvi-tools", "scanpy", "scikit-learn", "numpy", "scipy", "torch")


def main() -> int:
    """Run what is missing, score what is there, write results and tables."""
    args = command_line(__doc__, METHODS, DATASETS, out="rna.json").parse_args()
    done = run_missing(args, METHODS, present(args.datasets, args.data), args.data)
    records = with_kept(all_records(args.data, cache_folder(args)), args.out, METHODS, DATASETS)
    if not records:
        print("Nothing to report: no finished run in the cache.")
        return 1
    results = {**condense(records), **done._asdict()}
    save(args, "rna", results, report(results))
    print_seeds(results)
    return 1 if done.failed else 0


def all_records(folder: Path, cache: Path) -> list[dict[str, Any]]:
    """Records of all finished runs on the data sets that are there."""
    return [
        found
        for dataset in DATASETS.values()
        if dataset.path(folder).exists()
        for found in records_of(dataset, folder, cache)
    ]


def records_of(dataset: Dataset, folder: Path, cache: Path) -> list[dict[str, Any]]:
    """Records of the finished runs on one data set, which is read once."""
    runs = [run for method in METHODS.values() for run in finished(dataset, method, cache)]
    if not runs:
        return []
    adata, labels = dataset.read(folder)
    return [record(run, adata, labels) for run in runs]


def condense(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Content of the results file."""
    frame = pd.DataFrame(records)
    return {
        "machine": machine(),
        "cells_per_metacell": CELLS_PER_METACELL,
        "datasets": [name for name in DATASETS if name in set(frame["dataset"])],
        "mean_over_sets": over_sets(frame),
        "summary": over_seeds(frame),
        "runs": records,
    }


def machine() -> dict[str, Any]:
    """What the times depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "threads": THREADS,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def print_seeds(results: dict[str, Any]) -> None:
    """Say on how many seeds each method's numbers rest, per data set."""
    rows = pd.DataFrame(results["summary"])
    table = rows.assign(n=rows["seeds"].map(len)).pivot(
        index="method", columns="dataset", values="n"
    )
    print("\nSeeds per method and data set:")
    order = [name for name in METHODS if name in table.index]
    print(table.reindex(order, columns=results["datasets"]).fillna(0).astype(int).T.to_string())


if __name__ == "__main__":
    raise SystemExit(main())
