"""Compare COEM with SEACells on cells with RNA and chromatin: one command from counts to a table.

usage: python benchmarks/coem.py --data DIR [--methods ...] [--seeds 0 1 2]

As ``quality.py``: every (data set, method, seed) that the cache lacks is run in a process of its
own, then everything in the cache is scored and written to ``results/coem.json``, and as a table
to the README. Scores are those of SEACells and of the paper of COEM, in diffusion components of
RNA and of chromatin.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from _command_line import cache_folder, command_line, run_missing
from _datasets import LABEL
from _markdown import Report, save, table
from _methods import Method
from _paired import PAIRED, PairedDataset, prepare_all
from _runs import Run, finished, with_kept
from _scores import about as about_run
from _summary import number, over_seeds, overlap
from multiome import METHODS as PAIRED_METHODS
from quality import machine

from scmetaq import metrics

sys.path.insert(0, str(Path(__file__).resolve().parent / "methods"))

from run_kmeans_paired import reduced

SETS: Final = {name: dataset for name, dataset in PAIRED.items() if dataset.other == "atac"}
OURS: Final = "methods/run_coem.py"
SEACELLS: Final = "peers/run_seacells.py"
METHODS: Final[dict[str, Method]] = {
    method.name: method
    for method in (
        Method("coem", OURS, "COEM of this package"),
        PAIRED_METHODS["scmetaq-joint"],
        Method(
            "spectral-rna",
            OURS,
            "spectral metacells on principal components of RNA",
            ("--on", "rna"),
        ),
        Method(
            "spectral-atac",
            OURS,
            "spectral metacells on components of TF-IDF values of peaks",
            ("--on", "atac"),
        ),
        Method("seacells-rna", SEACELLS, "SEACells on RNA", ("--on", "rna"), "seacells"),
        Method("seacells-atac", SEACELLS, "SEACells on ATAC", ("--on", "atac"), "seacells"),
        PAIRED_METHODS["seacells"],
    )
}
COLUMNS: Final[dict[str, bool]] = {
    "purity": True,
    "accuracy": True,
    "balanced accuracy": True,
    "separation rna": True,
    "separation atac": True,
    "diffusion compactness rna": False,
    "diffusion compactness atac": False,
}
"""Columns of the table, and whether higher is better."""


def main() -> int:
    """Run what is missing, score what is there, write results and table."""
    args = command_line(__doc__, METHODS, SETS, out="coem.json", files="h5mu").parse_args()
    cache = cache_folder(args)
    prepared = cache / "paired"
    datasets = prepare_all(args.datasets, args.data, prepared)
    done = run_missing(args, METHODS, datasets, prepared)
    new = [record for dataset in datasets for record in records_of(dataset, prepared, cache)]
    records = with_kept(new, args.out, METHODS, SETS)
    rows = over_seeds(pd.DataFrame(records), [*COLUMNS, "cpu_seconds", "peak_mb"])
    results = {"machine": machine(), "summary": rows, "runs": records} | done._asdict()
    save(args, "coem", results, report(results))
    return 1 if done.failed else 0


def records_of(dataset: PairedDataset, prepared: Path, cache: Path) -> list[dict[str, Any]]:
    """Records of the finished runs on one data set, whose diffusion maps are made once."""
    runs = [run for method in METHODS.values() for run in finished(dataset, method, cache)]
    if not runs:
        return []
    parts, labels = dataset.read(prepared)
    maps = {
        kind: metrics.diffusion_map(reduced(kind, adata, seed=0)) for kind, adata in parts.items()
    }
    return [about_run(run) | scores(run, maps, labels[LABEL]) for run in runs]


def scores(run: Run, maps: dict[str, metrics.DiffusionMap], labels: pd.Series) -> dict[str, float]:
    """One number per metric of a run."""
    assignment = np.load(run.file(".npy"))
    found = {
        "purity": metrics.purity(assignment, labels).mean(),
        "accuracy": metrics.accuracy(assignment, labels),
        "balanced accuracy": metrics.balanced_accuracy(assignment, labels),
    }
    for kind, of_kind in maps.items():
        separation = metrics.diffusion_separation(of_kind, assignment)
        compactness = metrics.diffusion_compactness(of_kind, assignment)
        found[f"separation {kind}"] = separation.mean()
        found[f"diffusion compactness {kind}"] = compactness.mean()
    return {name: round(float(value), 6) for name, value in found.items()}


def report(results: dict[str, Any]) -> Report:
    """All methods on all data sets."""
    rows, lines = results["summary"], []
    for row in rows:
        of_set = [other for other in rows if other["dataset"] == row["dataset"]]
        cells = [cell(row, of_set, name) for name in COLUMNS]
        cells += [number(row, name, ",.0f") for name in ("cpu_seconds", "peak_mb")]
        lines.append([row["dataset"], row["method"], str(len(row["seeds"])), *cells])
    heading = ["data set", "method", "seeds", *COLUMNS, "CPU s", "peak MB"]
    return Report(table(heading, lines, n_text=3))


def cell(row: dict[str, Any], rows: list[dict[str, Any]], name: str) -> str:
    """Median; bold if best, with ≈ if the range over seeds meets that of the best."""
    sign = 1 if COLUMNS[name] else -1
    if name not in row:
        return "-"
    present = (other[name] for other in rows if name in other)
    top = max(present, key=lambda of: sign * of["median"])
    text = f"{row[name]['median']:.4f}"
    if row[name]["median"] == top["median"]:
        return f"**{text}**"
    return f"{text} ≈" if overlap(row[name], top) else text


if __name__ == "__main__":
    raise SystemExit(main())
