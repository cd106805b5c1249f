"""Compare metacells made within each cell type and sample: one command from counts to a table.

usage: python benchmarks/pure.py --data DIR [--methods ...] [--seeds 0 1 2]

As ``quality.py``: every (data set, method, seed) that the cache lacks is run in a process of its
own, then everything in the cache is scored and written to ``results/pure.json``, and as a table
to the README. All methods make one metacell per ten cells, and no metacell mixes cell types or
samples.
"""

from __future__ import annotations

from typing import Any, Final

import anndata
import pandas as pd
from _command_line import cache_folder, command_line, run_missing
from _markdown import Report, save, table
from _methods import Method
from _pure import CELLS_PER_METACELL, GROUPS, GroupedDataset, scores
from _runs import Run, finished, with_kept
from _scores import about as about_run
from _scores import kept_scores
from _summary import number, over_seeds
from quality import machine

SETS: Final = {
    dataset.name: dataset
    for dataset in (
        GroupedDataset("kang_pbmc_labelled_1267genes", "made by clustering these counts"),
    )
}
BATCH: Final = ("--batch-key", "batch")
METHODS: Final[dict[str, Method]] = {
    method.name: method
    for method in (
        Method(
            "scmetaq-within",
            "methods/run_within.py",
            "this package: one training that knows the samples, split by `within=`",
            BATCH,
        ),
        Method(
            "scmetaq-within-blind",
            "methods/run_within.py",
            "the same without knowing of samples",
        ),
        Method(
            "scmetaq-grouped",
            "methods/run_grouped.py",
            "this package, default recipe, a training in each group",
            ("--by", "default"),
        ),
        Method(
            "scmetaq-published-grouped",
            "methods/run_grouped.py",
            'this package, `recipe="published"`, a training in each group, as in the paper',
            ("--by", "published"),
        ),
        Method(
            "kmeans-grouped",
            "methods/run_grouped.py",
            "k-means in each group, on principal components of all cells",
            ("--by", "kmeans"),
        ),
        Method(
            "random-grouped",
            "methods/run_grouped.py",
            "cells of each group dealt at random into equal parts",
            ("--by", "random"),
        ),
    )
}
SHOWN: Final = {
    "n_metacells": "metacells",
    "size_cv": "size CV",
    "tau treatment": "tau, treatment",
    "r treatment": "r, treatment",
    "tau type": "tau, cell type",
    "r type": "r, cell type",
    "compactness": "compactness",
    "separation": "separation",
    "cpu_seconds": "CPU s",
}


def main() -> int:
    """Run what is missing, score what is there, write results and table."""
    args = command_line(__doc__, METHODS, SETS, out="pure.json").parse_args()
    datasets = [SETS[name] for name in args.datasets if SETS[name].path(args.data).exists()]
    done, cache = run_missing(args, METHODS, datasets, args.data), cache_folder(args)
    new = []
    for dataset in datasets:
        adata = dataset.read(args.data)[0]
        runs = [run for method in METHODS.values() for run in finished(dataset, method, cache)]
        new += [record(run, adata) for run in runs]
    records = with_kept(new, args.out, METHODS, SETS)
    rows = over_seeds(pd.DataFrame(records), SHOWN)
    results = {
        "machine": machine(),
        "cells_per_metacell": CELLS_PER_METACELL,
        "groups": GROUPS,
        "summary": rows,
        "runs": records,
        **done._asdict(),
    }
    save(args, "pure", results, report(results))
    return 1 if done.failed else 0


def record(run: Run, adata: anndata.AnnData) -> dict[str, Any]:
    """Everything known about one run; scores are stored next to its assignment."""
    return {
        **about_run(run),
        "n_cells": adata.n_obs,
        **kept_scores(run, lambda assignment: scores(adata, assignment)),
    }


def report(results: dict[str, Any]) -> Report:
    """Medians over seeds, a row per method."""
    whole = ("n_metacells", "cpu_seconds")
    lines = (
        [
            row["method"],
            str(len(row["seeds"])),
            *(number(row, key, ".0f" if key in whole else ".3f") for key in SHOWN),
        ]
        for row in results["summary"]
    )
    return Report(table(["method", "seeds", *SHOWN.values()], lines, n_text=2))


if __name__ == "__main__":
    raise SystemExit(main())
