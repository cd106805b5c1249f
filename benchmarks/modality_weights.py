"""What one modality gains and the other loses by its weight: one command from counts to a table.

usage: python benchmarks/modality_weights.py --data DIR [--datasets ...] [--seeds 0 1 2]

No assignment is best in both modalities. Here the weight of RNA in the distances runs from .1 to
.9, for this package (``modality_weights``) and for k-means on the same principal components as in
``multiome.py``, each modality of total variance one. Of each point of k-means it is asked whether
a point of this package is at least as compact in both modalities; and of each method of both
modalities in ``results/multiome.json``, at which weights it is better than this package. What
``results/modality_weights.json`` has is not run again without ``--again``.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anndata
import pandas as pd
from _command_line import growing_command_line
from _in_process import Key, with_missing
from _markdown import Report, save, table
from _methods import HERE
from _paired import PAIRED, PairedDataset, prepare_all
from _summary import number, spread
from methods import run_kmeans_paired, run_scmetaq_paired
from multiome import JOINT, beyond_seeds, joint_peers, scores
from quality import machine

PEERS: Final = HERE / "results" / "multiome.json"
WEIGHTS: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
METHODS: Final[dict[str, tuple[Callable[..., Any], dict[str, str]]]] = {
    "scmetaq-joint": (run_scmetaq_paired.assign, {"use": "joint"}),
    "kmeans-concatenated": (run_kmeans_paired.assign, {"on": "concatenated"}),
}
OURS, PEER = METHODS


def main() -> None:
    """Do what is missing, write results and the table."""
    args = command_line().parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {"summary": []}
    datasets = prepare_all(args.datasets, args.data, args.prepared)
    names = ("dataset", "method", "rna_weight", "seed")
    for records in with_missing(args.out, tasks(datasets, args), names=names, again=args.again):
        rows = summary(pd.DataFrame(records)) if records else []
        results = {"machine": machine(), "summary": rows, "runs": records}
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    save(args, "modality_weights", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = growing_command_line(__doc__, PAIRED, out="modality_weights.json", files="h5mu")
    parser.add_argument("--prepared", type=Path, default=HERE.parent / ".peers" / "paired")
    return parser


def tasks(
    datasets: list[PairedDataset], args: argparse.Namespace
) -> Iterator[tuple[Key, Callable[[], dict[str, float]]]]:
    """Every run, and how to do it."""
    for seed in args.seeds:
        for dataset in datasets:
            for method in METHODS:
                for weight in WEIGHTS:
                    key = (dataset.name, method, weight, seed)
                    yield key, lambda key=key, of=dataset: run(of, *key[1:], args.prepared)


def run(
    dataset: PairedDataset, method: str, weight: float, seed: int, prepared: Path
) -> dict[str, float]:
    """Scores of one assignment."""
    parts, labels = dataset.read(prepared)
    function, options = METHODS[method]
    asked = {"n_metacells": dataset.n_metacells(prepared), "seed": seed, "rna_weight": weight}
    cells = anndata.read_h5ad(dataset.path(prepared))
    assignment = function(cells, argparse.Namespace(**asked, **options))
    found = scores(parts, assignment, labels)
    return {name: value for name, value in found.items() if ": " not in name}


def summary(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Median and range over seeds of each score of a data set, method and weight."""
    by = ["dataset", "method", "rna_weight"]
    return [
        dict(zip(by, key, strict=True))
        | {"seeds": sorted(map(int, of_key["seed"]))}
        | {name: spread(of_key[name]) for name in scored(of_key)}
        for key, of_key in runs.groupby(by, sort=False)
    ]


def scored(runs: pd.DataFrame) -> list[str]:
    """Scores that the runs have."""
    names = ("compactness", "separation", "size_cv", "purity", "balanced")
    return [name for name in runs if str(name).startswith(names) and runs[name].notna().any()]


def report(results: dict[str, Any]) -> Report:
    """How methods compare by weight; a table per data set, and comparisons with each method."""
    rows, parts = results["summary"], []
    for name in dict.fromkeys(row["dataset"] for row in rows):
        of_set = [row for row in rows if row["dataset"] == name]
        shown = ("compactness", "purity", "balanced")
        scores_of_set = [key for key in of_set[0] if key.startswith(shown)]
        lines = (
            [str(row["rna_weight"]), row["method"], str(len(row["seeds"]))]
            + [number(row, key) for key in scores_of_set]
            for row in sorted(of_set, key=lambda row: row["rna_weight"])
        )
        heading = ["weight of RNA", "method", "seeds", *scores_of_set]
        parts += [f"## {name}", matched(of_set), table(heading, lines, n_text=3)]
    wins = pd.DataFrame(ahead(rows))
    parts += [
        "## By method",
        "Number of columns in which a method of both modalities is better than this package by "
        "more than the range over seeds, with the default and with other weights of RNA. Columns: "
        "those above, separation in each modality, and size CV.",
        table(wins.columns, wins.astype(str).to_numpy(), n_text=2),
    ]
    by_set = wins.drop(columns="method").groupby("data set", sort=False).sum().reset_index()
    total = pd.DataFrame([{"data set": "all", **by_set.drop(columns="data set").sum()}])
    short = pd.concat([by_set, total]).rename(columns={"columns": "comparisons"})
    return Report(table(short.columns, short.astype(str).to_numpy()), "\n\n".join(parts))


def matched(rows: list[dict[str, Any]]) -> str:
    """How many points of k-means a point of this package is as compact as, in both modalities."""
    both = [key for key in rows[0] if key.startswith("compactness")]
    points = {
        method: [[row[key]["median"] for key in both] for row in rows if row["method"] == method]
        for method in METHODS
    }
    n = sum(
        any(all(a >= b for a, b in zip(mine, theirs, strict=True)) for mine in points[OURS])
        for theirs in points[PEER]
    )
    return (
        f"{OURS} is as compact in both modalities as {n} of {len(points[PEER])} points of {PEER}."
    )


def ahead(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """In how many columns each method of both modalities is better than this package, by weight."""
    of_peers = json.loads(PEERS.read_text())["summary"]
    for name in dict.fromkeys(row["dataset"] for row in rows):
        beside = [row for row in of_peers if row["dataset"] == name]
        default = next(row for row in beside if row["method"] == JOINT)
        of_set = [row for row in rows if row["dataset"] == name and row["method"] == OURS]
        by_weight = sorted(of_set, key=lambda row: row["rna_weight"])
        columns = [key for key in of_set[0] if isinstance(of_set[0][key], dict)]
        for peer in joint_peers(beside):
            wins = [len(beyond_seeds(peer, row, columns)[0]) for row in (default, *by_weight)]
            head = {"data set": name, "method": peer["method"], "columns": len(columns)}
            yield head | dict(zip(("default", *map(str, WEIGHTS)), wins, strict=True))


if __name__ == "__main__":
    main()
