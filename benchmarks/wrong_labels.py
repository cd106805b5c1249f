"""What a label draws that a few cells of a frequent type have by mistake.

usage: python benchmarks/wrong_labels.py --data DIR [--cache DIR]

Reads the latents that ``label_transfer.py`` made; sets whose latents the cache lacks are skipped.
Each batch in turn is the query, whose labels are not given.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from _datasets import DATASETS, Dataset
from _markdown import Report, save, table
from _methods import HERE
from _transfer import Task, tasks
from label_transfer import BATCH, BATCHES, METHODS, answers, file_of, runner_of
from quality import machine

SHOWN: Final = ("scmetaq", "linear-svm", "knn-pca")
N_WRONG: Final = (1, 2, 5, 10, 20)
WRONG: Final = "label by mistake"


def main() -> None:
    """Mislabel, predict, count; write results and table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--datasets", nargs="*", choices=BATCHES, default=list(BATCHES[:3]))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".peers" / "transfer")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "wrong_labels.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    args = parser.parse_args()
    records = [record for name in args.datasets for record in of_dataset(DATASETS[name], args)]
    results = {"machine": machine(), "runs": records}
    save(args, "wrong_labels", results, report(results))


def of_dataset(dataset: Dataset, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Share of the type, and of all query cells, that each method gives the wrong label."""
    adata, kept = dataset.read(args.data)
    labels, batches = kept.to_numpy(), adata.obs[BATCH].astype(str).to_numpy()
    for seed in args.seeds:
        whole = [task for task in tasks(labels, batches, seed) if task.held_out is None]
        for task in whole:
            asked = set(labels[task.query])
            frequent = Counter(k for k in labels[task.reference] if k in asked).most_common(1)[0][0]
            for n_wrong in N_WRONG:
                given = mislabelled(labels, task, str(frequent), (n_wrong, seed))
                for name in SHOWN:
                    file = file_of(dataset, runner_of(METHODS[name]) or "none", seed, args.cache)
                    for _, (found, _) in answers(METHODS[name], [task], given, adata, file):
                        truth = labels[task.query].astype(str)
                        yield {
                            "dataset": dataset.name,
                            "split": task.split,
                            "seed": seed,
                            "method": name,
                            "n_wrong": n_wrong,
                            "type": str(frequent),
                            "drawn": float((found == WRONG)[truth == frequent].mean()),
                            "accuracy": float((found == truth).mean()),
                        }


def mislabelled(labels: np.ndarray, task: Task, frequent: str, draw: tuple[int, int]) -> np.ndarray:
    """Labels, with some reference cells of a type under the wrong one: how many, and a seed."""
    n_wrong, seed = draw
    of_type = np.flatnonzero(task.reference & (labels == frequent))
    given = labels.copy()
    given[np.random.default_rng(seed).choice(of_type, n_wrong, replace=False)] = WRONG
    return given


def report(results: dict[str, Any]) -> Report:
    """Mean over splits of medians over seeds, all sets together."""
    runs = pd.DataFrame(results["runs"])
    per_split = runs.groupby(["method", "n_wrong", "dataset", "split"], sort=False)
    means = per_split["drawn"].median().groupby(["method", "n_wrong"], sort=False).mean()
    lines = (
        [name, *(f"{means[name, n]:.3f}" for n in N_WRONG)] for name in SHOWN if name in means.index
    )
    return Report(table(["method", *map(str, N_WRONG)], lines))


if __name__ == "__main__":
    main()
