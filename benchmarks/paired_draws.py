"""Which differences between methods of two modalities persist with other cells.

usage: python benchmarks/paired_draws.py --data DIR [--methods ...] [--datasets ...] [--seeds 0 1]

Where seeds change little, the smallest difference exceeds their range. Here four of five cells of a
set are drawn at random, ten times, all methods group the same draw, and a method counts as better
in a column where it is better in nine draws of ten or more. Writes ``results/paired_draws.json``
and tables of how often other methods of both modalities are better than this package. The draws
share cells: that is a count, not a test. Runs that the results file has are repeated only with
``--again``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
from _command_line import growing_command_line
from _in_process import Key, with_missing
from _markdown import Report, save, table
from _methods import HERE
from _paired import PAIRED, PairedDataset, by_modality, prepare_all
from _runs import Run
from methods import run_kmeans_paired, run_scmetaq_paired, run_scvi_paired
from multiome import JOINT, METHODS, scores
from quality import machine

ASSIGN: Final[dict[str, tuple[Callable[..., Any], dict[str, Any]]]] = {
    JOINT: (run_scmetaq_paired.assign, {"use": "joint", "rna_weight": None}),
    "kmeans-concatenated": (run_kmeans_paired.assign, {"on": "concatenated", "rna_weight": 0.5}),
    "kmeans-wnn": (run_kmeans_paired.assign, {"on": "wnn"}),
    "scvi-kmeans-paired": (run_scvi_paired.assign, {"epochs": None}),
}
"""Methods that run within this process."""
COMPARED: Final = [*ASSIGN, "seacells"]
SHARE, SURE = 0.8, 0.9


def main() -> None:
    """Do what is missing, write results and tables."""
    args = command_line().parse_args()
    warnings.simplefilter("ignore")
    datasets = prepare_all(args.datasets, args.data, args.prepared)
    names = ("dataset", "method", "draw")
    for records in with_missing(args.out, tasks(datasets, args), names=names, again=args.again):
        results = {"machine": machine(), "share": SHARE, "runs": records}
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    if records:
        save(args, "paired_draws", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = growing_command_line(__doc__, PAIRED, out="paired_draws.json", files="h5mu")
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".peers")
    parser.add_argument("--methods", nargs="*", choices=COMPARED, default=COMPARED)
    parser.add_argument("--prepared", type=Path, default=HERE.parent / ".peers" / "paired")
    parser.set_defaults(seeds=list(range(10)))
    return parser


def tasks(
    datasets: list[PairedDataset], args: argparse.Namespace
) -> Iterator[tuple[Key, Callable[[], dict[str, float]]]]:
    """Every run, and how to do it; cells and labels of a set are read once."""
    for dataset in datasets:
        cells = anndata.read_h5ad(dataset.path(args.prepared))
        _, labels = dataset.read(args.prepared)
        for method in args.methods:
            if METHODS[method].python(args.peers) is None:
                print(f"skip  {method}: benchmarks/peers/setup.sh makes its environment")
                continue
            for draw in args.seeds:
                key = (dataset.name, method, draw)
                drawn = of_draw(cells.n_obs, draw)
                yield (
                    key,
                    lambda a=cells, rows=drawn, of=labels, key=key: run(
                        a[rows].copy(),
                        {name: label.iloc[rows] for name, label in of.items()},
                        key,
                        args.peers,
                    ),
                )


def of_draw(n_cells: int, number: int) -> np.ndarray:
    """Cells of a draw, in their order."""
    rng = np.random.default_rng(number)
    return np.sort(rng.choice(n_cells, round(SHARE * n_cells), replace=False))


def run(
    cells: anndata.AnnData, labels: dict[str, pd.Series], key: Key, peers: Path
) -> dict[str, float]:
    """Scores of one assignment; the seed of a method is the number of the draw."""
    dataset, method, seed = key
    parts = by_modality(cells)
    with tempfile.TemporaryDirectory() as folder:
        drawn = PairedDataset(f"{dataset}-draw{seed}", PAIRED[dataset].other)
        cells.write_h5ad(drawn.path(Path(folder)))
        if method in ASSIGN:
            function, options = ASSIGN[method]
            asked = {"n_metacells": drawn.n_metacells(Path(folder)), "seed": seed}
            assignment = function(cells, argparse.Namespace(**asked, **options))
        else:
            peer = Run(drawn, METHODS[method], seed, Path(folder))
            if not peer.execute(METHODS[method].python(peers), Path(folder)):
                raise RuntimeError(f"{method} failed: {peer.file('.log').read_text()[-2000:]}")
            assignment = np.load(peer.file(".npy"))
    found = scores(parts, assignment, labels)
    return {name: value for name, value in found.items() if ": " not in name}


def report(results: dict[str, Any]) -> Report:
    """How often others are better, by method; the columns in which they nearly always are."""
    runs = pd.DataFrame(results["runs"])
    of_columns = pd.concat(
        compared(of, runs[(runs["dataset"] == dataset) & (runs["method"] == JOINT)])
        for (dataset, method), of in runs.groupby(["dataset", "method"], sort=False)
        if method != JOINT
    )
    counts = of_columns.assign(
        **{
            "better": of_columns["ahead in"] >= SURE,
            "worse": of_columns["behind in"] >= SURE,
            "columns": True,
        }
    )
    by = ["data set", "method", "draws"]
    counts = counts.groupby(by, sort=False)[["columns", "better", "worse"]].sum().reset_index()
    sure = of_columns[of_columns["ahead in"] >= SURE].drop(columns="behind in")
    intro = "Columns in which a method is better than this package in nine draws of ten or more."
    return Report(markdown(counts), f"{intro}\n\n{markdown(sure)}")


def compared(theirs: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """A row per column of scores: in what share of the common draws another method is better."""
    theirs, ours = theirs.set_index("draw"), ours.set_index("draw")
    draws = theirs.index.intersection(ours.index)
    rows = []
    for name in columns_of(theirs):
        sign = -1 if name == "size_cv" else 1
        a, b = theirs.loc[draws, name], ours.loc[draws, name]
        rows.append(
            {
                "data set": theirs["dataset"].iloc[0],
                "method": theirs["method"].iloc[0],
                "column": name,
                "draws": len(draws),
                "ahead in": (sign * (a - b) > 0).mean(),
                "behind in": (sign * (a - b) < 0).mean(),
                "median": a.median(),
                "this package": b.median(),
            }
        )
    return pd.DataFrame(rows)


def columns_of(runs: pd.DataFrame) -> list[str]:
    """Scores that the runs have and that have a better end."""
    shown = ("purity", "balanced", "compactness", "separation", "size_cv")
    return [name for name in runs if str(name).startswith(shown) and runs[name].notna().all()]


def markdown(frame: pd.DataFrame) -> str:
    """Table of a frame, numbers to four digits."""
    rows = (
        [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row]
        for row in frame.itertuples(index=False)
    )
    return table(frame.columns, rows, n_text=2)


if __name__ == "__main__":
    main()
