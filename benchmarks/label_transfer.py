"""Compare how labels are transferred: one command from counts to tables.

usage: python benchmarks/label_transfer.py --data DIR [--methods ...] [--datasets ...]

Latents of every (data set, model, seed) that the cache lacks are made by a process of its own;
then all tasks are done with what the cache holds, of whatever method, scored and written to
``results/label_transfer.json``, and as tables to the README and ``results/label_transfer.md``; what
only the JSON file has is kept there. Latents
of ``scmetaq`` in the cache must be those of the present code: ``--again`` repeats them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
from _datasets import DATASETS, Dataset
from _markdown import Report, save, table
from _methods import HERE
from _runs import one_thread, with_kept
from _summary import means_table, spread
from _transfer import (
    Answer,
    Classifier,
    Task,
    linear_svm,
    nearest_mean,
    neighbor_distance,
    neighbors,
    prototypes,
    scores,
    tasks,
    unknown_rates,
)
from _transfer_compared import Labelled, compared, comparison_table
from methods._shared import log_counts, variable_genes
from quality import machine

BATCH: Final = "batch"
OURS: Final = "scmetaq"
COMPARED: Final = (
    "Number of splits in which `scmetaq` is better / level / worse. Level: the 95 % bootstrap "
    "interval of the difference, over cells of the query, includes zero. AUROC: splits in which "
    "that of `scmetaq` is higher, and both means over the tasks that the other method was run on."
)
BATCHES: Final = (
    "pbmc_3chemistries_1200_hvg",
    "sc_mixology_5batch",
    "kang_pbmc_labelled_1267genes",
    "pbmc_multibatch",
)
CHOSEN_ON: Final = (
    "pbmc_3chemistries_1200_hvg",
    "pbmc_facs_sorted",
    "mouse_endocrinogenesis_2000genes",
)
"""Sets on which the method was chosen."""
SCVI_EPOCHS: Final = 100
COLUMNS: Final = {
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "auroc": "AUROC of unknown types",
}
SHOWN: Final = ("weighted_f1", "macro_f1", "auroc", "flagged_known", "flagged_new")


@dataclass(frozen=True)
class Transfer:
    """One row of the tables."""

    name: str
    what: str
    latents: str | None
    """Model whose latents it reads, in ``mapped`` one per split; None: log counts."""
    classifier: Classifier | None
    """None: it labels cells itself."""


METHODS: Final[dict[str, Transfer]] = {
    method.name: method
    for method in (
        Transfer("scmetaq", "this package, `predict_labels`", "scmetaq", prototypes),
        Transfer("scmetaq-mapped", "query mapped, `load_query_data`", "mapped", prototypes),
        Transfer("scmetaq-euclidean", "without a metric", "scmetaq", nearest_mean),
        Transfer("linear-svm", "linear SVM on log counts of 3,000 genes", None, linear_svm),
        Transfer("knn-pca", "15 neighbours on 50 principal components", "pca", neighbors),
        Transfer("knn-pca-distance", "the same, unsure by distance", "pca", neighbor_distance),
        Transfer("knn-scvi", f"15 neighbours on scVI, {SCVI_EPOCHS} epochs", "scvi", neighbors),
        Transfer("knn-scvi-distance", "the same, unsure by distance", "scvi", neighbor_distance),
        Transfer("scanvi", f"scANVI, {SCVI_EPOCHS} epochs and 20 more", None, None),
    )
}


def main() -> int:
    """Make what is missing, do the tasks, write results and tables."""
    args = command_line().parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    datasets = [DATASETS[n] for n in args.datasets if DATASETS[n].path(args.data).exists()]
    failed = [
        stem
        for seed in args.seeds
        for dataset in datasets
        for kind in dict.fromkeys(runner_of(METHODS[name]) for name in args.methods)
        if kind and (stem := made(dataset, kind, seed, args)) is not None
    ]
    new = [of_dataset(dataset, args) for dataset in datasets]
    names = (METHODS, DATASETS)
    records = with_kept([r for found, _ in new for r in found], args.out, *names)
    beside = [row for _, found in new for row in found]
    comparisons = with_kept(beside, args.out, *names, part="comparisons")
    rows = summary(pd.DataFrame(records))
    results = {"machine": machine(), "chosen_on": CHOSEN_ON, "summary": rows}
    results |= {"comparisons": comparisons, "runs": records, "failed": failed}
    save(args, "label_transfer", results, report(results))
    return 1 if failed else 0


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--datasets", nargs="*", choices=list(DATASETS), default=list(DATASETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--types", type=int, default=3, help="types held out per split for scANVI")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "label_transfer.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".peers" / "transfer")
    parser.add_argument("--again", action="store_true", help="make also what the cache holds")
    return parser


def runner_of(method: Transfer) -> str | None:
    """What a method needs in the cache."""
    return "scanvi" if method.classifier is None else method.latents


def file_of(dataset: Dataset, kind: str, seed: int, cache: Path) -> Path:
    """File of latents, or of the answers of scANVI."""
    ending = "npz" if kind in ("scanvi", "mapped") else "npy"
    return cache / f"{dataset.name}__{kind}__{seed}.{ending}"


def made(dataset: Dataset, kind: str, seed: int, args: argparse.Namespace) -> str | None:
    """See that a file is in the cache; its name if making it failed."""
    out = file_of(dataset, kind, seed, args.cache)
    if out.exists() and not args.again:
        return None
    if kind == "mapped" and dataset.name not in BATCHES:
        return None  # the query of the other sets is new to the model as it is
    script = "run_scanvi.py" if kind == "scanvi" else "run_latents.py"
    command = [sys.executable, HERE / "methods" / script, dataset.path(args.data), seed, out]
    command += [] if kind == "scanvi" else ["--model", kind]
    command += ["--batch-key", BATCH] if dataset.name in BATCHES else []
    command += ["--epochs", SCVI_EPOCHS] if kind in ("scvi", "scanvi") else []
    command += ["--types", args.types] if kind == "scanvi" else []
    print(f"run   {out.stem}", flush=True)
    with out.with_suffix(".log").open("w") as log:
        done = subprocess.run(
            list(map(str, command)), stdout=log, stderr=log, env=one_thread(), check=False
        )
    print(f"{'FAIL' if done.returncode else 'done'}  {out.stem}", flush=True)
    return out.stem if done.returncode else None


def of_dataset(
    dataset: Dataset, args: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Scores of all tasks on one data set, which is read once, and comparisons of the labels."""
    adata, kept = dataset.read(args.data)
    labels = kept.to_numpy()
    batches = adata.obs[BATCH].astype(str).to_numpy() if dataset.name in BATCHES else None
    print(f"score {dataset.name}", flush=True)
    records = []
    labelled = {}
    for method in METHODS.values():
        for seed in args.seeds[:1] if is_fixed(method, dataset) else args.seeds:
            every = list(tasks(labels, batches, seed))
            file = file_of(dataset, runner_of(method) or "none", seed, args.cache)
            key = {"dataset": dataset.name, "method": method.name, "seed": seed}
            for task, answer in answers(method, every, labels, adata, file):
                records.append(key | scored(method, task, labels, answer))
                if task.held_out is None:
                    truth = labels[task.query].astype(str)
                    of_task = Labelled(task.query, truth, answer[0])
                    labelled[method.name, task.split, seed] = of_task
    return records, [{"dataset": dataset.name} | row for row in compared(labelled, OURS)]


def is_fixed(method: Transfer, dataset: Dataset) -> bool:
    """Whether no seed plays a part: an exact method, and splits by batch."""
    return method.classifier is linear_svm and dataset.name in BATCHES


def answers(
    method: Transfer, every: list[Task], labels: np.ndarray, adata: anndata.AnnData, file: Path
) -> Iterator[tuple[Task, Answer]]:
    """What one method and seed answers to each task."""
    if runner_of(method) and not file.exists():
        return
    rows = np.load(file) if runner_of(method) else None
    features = dense(adata, every[0].reference) if runner_of(method) is None else None
    for task in every:
        if method.classifier is linear_svm and task.held_out is not None:
            continue  # it says which side, not how far: labels only
        if method.classifier is None:
            if f"{task.name}|labels" in rows:
                yield task, (rows[f"{task.name}|labels"], rows[f"{task.name}|uncertainty"])
            continue
        latents = rows[task.split] if method.latents == "mapped" else rows
        read = latents if features is None else features
        yield task, classified(method.classifier, read, labels, task)


def scored(method: Transfer, task: Task, labels: np.ndarray, answer: Answer) -> dict[str, Any]:
    """Record of an answer."""
    found = scores(task, labels, answer)
    if method.classifier is prototypes:
        found |= unknown_rates(task, labels, answer)
    numbers = {name: round(value, 5) for name, value in found.items()}
    return {"split": task.split, "held_out": task.held_out, **numbers}


def classified(classifier: Classifier, rows: np.ndarray, labels: np.ndarray, task: Task) -> Answer:
    """Answer of a classifier to a task."""
    given = labels[task.reference].astype(str)
    return classifier(rows[task.reference], given, rows[task.query])


def dense(adata: anndata.AnnData, reference: np.ndarray) -> np.ndarray:
    """Log counts of the genes that vary most among the reference cells."""
    X = log_counts(adata)
    return X[:, variable_genes(X[reference])].toarray()


def summary(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Median and range over seeds per data set, split and method; AUROC as the mean over types."""
    by = ["dataset", "split", "method", "seed"]
    per_seed = runs.groupby(by, sort=False)[[c for c in SHOWN if c in runs]].mean().reset_index()
    return [
        {
            "dataset": dataset,
            "split": split,
            "method": method,
            "seeds": sorted(map(int, of_row["seed"])),
            **{name: spread(of_row[name]) for name in measured(of_row)},
        }
        for (dataset, split, method), of_row in per_seed.groupby(by[:3], sort=False)
    ]


def measured(runs: pd.DataFrame) -> list[str]:
    """Scores that the runs have."""
    return [name for name in SHOWN if name in runs and runs[name].notna().any()]


def report(results: dict[str, Any]) -> Report:
    """Means over data sets; differences by split, and a table per data set."""
    rows = results["summary"]
    parts = []
    if results["comparisons"]:
        runs = pd.DataFrame(results["runs"])
        parts += ["## Differences by split", COMPARED]
        parts.append(comparison_table(results["comparisons"], runs, OURS))
    for name in dict.fromkeys(row["dataset"] for row in rows):
        of_set = [row for row in rows if row["dataset"] == name]
        note = " The method was chosen on this set, among others." if name in CHOSEN_ON else ""
        parts += [f"## {name}", f"Labels {DATASETS[name].labels}.{note}"]
        lines = []
        for method in dict.fromkeys(row["method"] for row in of_set):
            mine = [row for row in of_set if row["method"] == method]
            n_seeds = min(len(row["seeds"]) for row in mine)
            scores_of = (mean_of(mine, score) for score in COLUMNS)
            lines.append([method, str(n_seeds), str(len(mine)), *scores_of])
        parts.append(table(["method", "seeds", "splits", *COLUMNS.values()], lines, n_text=3))
    return Report(means_table(rows, COLUMNS), "\n\n".join(parts))


def mean_of(rows: list[dict[str, Any]], score: str) -> str:
    """Mean over splits."""
    values = [row[score]["median"] for row in rows if score in row]
    return f"{np.mean(values):.3f}" if values else "-"


if __name__ == "__main__":
    raise SystemExit(main())
