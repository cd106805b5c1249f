"""Do rare types keep a metacell of their own: one command from counts to table.

usage: python benchmarks/rare.py --data DIR [--methods ...] [--datasets ...] [--seeds 0 1 2]

As in Fig. 6e of the MetaQ paper, one type of a labelled data set is subsampled until it is so small
a share of the cells, and each method is asked for one metacell per 50, or per 25, cells. A cell
of the type is found if its metacell has more cells of this type than of any other. Runs that
``results/rare.json`` has are not repeated, unless ``--again`` says so.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
from _command_line import growing_command_line
from _datasets import DATASETS
from _in_process import ASSIGN, Key, assign, with_missing
from _markdown import Report, save, table
from _methods import HERE, METHODS
from _runs import one_thread
from quality import machine

from scmetaq import metrics

NAMES: Final = ("dataset", "method", "share", "cells_per_metacell", "seed")
SHARES: Final = (0.02, 0.01, 0.005, 0.002, 0.001)
WORST: Final = (0.005, 0.002)
"""Shares of which the worst seed is shown too."""
GRANULARITIES: Final = (50, 25)
TYPES: Final = {
    "pbmc_facs_sorted": "CD14 Mono",
    "pbmc3k": "B",
    "mouse_endocrinogenesis_2000genes": "Epsilon",
    "pbmc4k_scdcc_unnamed2000": "c08",
    "pbmc_multibatch": "B",
}
"""The type that is made rare; all types are more than 2 % of their set."""
PEERS: Final = ("metacells2", "seacells")
LIMIT: Final = 600
"""Seconds after which a run of a peer is stopped."""


def main() -> None:
    """Run what is missing, then write results and table."""
    args = command_line().parse_args()
    for records in with_missing(args.out, tasks(args), names=NAMES, again=args.again):
        results = {"machine": machine(), "types": TYPES, "runs": records}
        if records:
            save(args, "rare", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = growing_command_line(__doc__, TYPES, out="rare.json")
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".peers")
    methods = [*ASSIGN, *PEERS]
    parser.add_argument("--methods", nargs="*", choices=methods, default=methods)
    parser.add_argument("--shares", nargs="*", type=float, default=SHARES)
    parser.add_argument("--granularities", nargs="*", type=int, default=GRANULARITIES)
    return parser


def tasks(args: argparse.Namespace) -> Iterator[tuple[Key, Callable[[], dict[str, Any]]]]:
    """All runs that were asked for, seed by seed."""
    for seed in args.seeds:
        for name in args.datasets:
            adata, labels = DATASETS[name].read(args.data)
            for share in args.shares:
                cells = subsample(labels, TYPES[name], share, seed)
                for per_metacell in args.granularities:
                    for method in args.methods:
                        key = (name, method, share, per_metacell, seed)
                        chosen, named = adata[cells].copy(), labels.iloc[cells].astype(str)
                        yield key, lambda key=key, of=(chosen, named): run(key, *of, args.peers)


def subsample(labels: pd.Series, rare: str, share: float, seed: int) -> np.ndarray:
    """Sorted indices of all labelled cells but those of a type, and of a few of that type."""
    known = labels.notna().to_numpy()
    of_type = np.flatnonzero(known & (labels == rare).to_numpy())
    others = np.flatnonzero(known & (labels != rare).to_numpy())
    n = max(2, round(share * len(others) / (1 - share)))
    kept = np.random.default_rng(seed).choice(of_type, n, replace=False)
    return np.sort(np.concatenate([others, kept]))


def run(key: Key, adata: anndata.AnnData, labels: pd.Series, peers: Path) -> dict[str, Any]:
    """One assignment and what it made of the rare type."""
    dataset, method, _, per_metacell, seed = key
    adata = adata[:, np.asarray(adata.X.sum(0)).ravel() > 0].copy()
    n_metacells = round(adata.n_obs / per_metacell)
    start = time.perf_counter()
    if method in ASSIGN:
        found = assign(method, adata, n_metacells, seed)
    else:
        found = assign_by_peer(method, adata, n_metacells, seed, peers)
    seconds = round(time.perf_counter() - start, 1)
    return {"seconds": seconds} | fate(found, labels, TYPES[dataset])


def assign_by_peer(
    method: str, adata: anndata.AnnData, n_metacells: int, seed: int, peers: Path
) -> np.ndarray:
    """Assignment by a method that has an environment of its own."""
    python = METHODS[method].python(peers)
    if python is None:
        raise FileNotFoundError(f"no environment of {method}: benchmarks/peers/setup.sh makes it")
    with tempfile.TemporaryDirectory() as folder:
        cells, out = Path(folder) / "cells.h5ad", Path(folder) / "out.npy"
        adata.write_h5ad(cells)
        command = METHODS[method].command(python, cells, n_metacells, seed, out)
        subprocess.run(command, env=one_thread(), check=True, timeout=LIMIT, capture_output=True)
        return np.load(out)


def fate(assignment: np.ndarray, labels: pd.Series, rare: str) -> dict[str, float]:
    """Where the cells of a rare type went; cells without a metacell are not found."""
    kinds = labels.to_numpy()
    counts = pd.crosstab(assignment, kinds)
    counts = counts[counts.index >= 0]
    others = counts.drop(columns=rare).max(axis=1)
    own = counts.loc[counts[rare] > others, rare]
    kept = assignment >= 0
    return {
        "n_cells": len(kinds),
        "n_rare": int((kinds == rare).sum()),
        "n_metacells": len(counts),
        "found": round(float(own.sum() / (kinds == rare).sum()), 4),
        "own_metacells": len(own),
        "size_cv": round(metrics.size_summary(assignment).size_cv, 4),
        "largest_share": round(float((counts[rare] / counts.sum(axis=1)).max()), 4),
        "purity": round(float(metrics.purity(assignment[kept], kinds[kept]).mean()), 4),
        "accuracy": round(metrics.accuracy(assignment[kept], kinds[kept]), 4),
        "balanced_accuracy": round(metrics.balanced_accuracy(assignment[kept], kinds[kept]), 4),
    }


def report(results: dict[str, Any]) -> Report:
    """Per method and granularity the share of rare cells found, by their frequency."""
    runs = pd.DataFrame(results["runs"])
    first, *others = (
        f"One metacell per {per_metacell} cells:\n\n{of_methods(of_grain)}"
        for per_metacell, of_grain in runs.groupby("cells_per_metacell", sort=False)
    )
    return Report(first, "\n\n".join(others))


def of_methods(runs: pd.DataFrame) -> str:
    """A row per method, a column per frequency of the rare type."""
    shares, lines = sorted(runs["share"].unique(), reverse=True), []
    values = {
        method: runs[runs["method"] == method]
        for method in dict.fromkeys([*ASSIGN, *PEERS])
        if method in set(runs["method"])
    }
    means = {method: _means(of_method, "found") for method, of_method in values.items()}
    best = pd.DataFrame(means).max(axis=1)
    for method, of_method in values.items():
        found = means[method].reindex(shares)
        is_best = found >= best[found.index] - 5e-3
        written = found.map("{:.2f}".format).mask(found.isna(), "-")  # a peer not run at a share
        cells = written.mask(is_best, "**" + written + "**")
        scores = [_mean(of_method, name) for name in ("purity", "accuracy", "size_cv")]
        worst = _means(of_method, "found", "min").reindex(WORST).map("{:.2f}".format)
        seeds = of_method.groupby("dataset")["seed"].nunique()
        n_seeds = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()}–{seeds.max()}"
        shown = worst.mask(worst == "nan", "-")
        lines.append([method, str(len(seeds)), n_seeds, *cells, *shown, *scores])
    names = [f"{100 * share:g}%" for share in shares]
    names += [f"worst seed, {100 * share:g}%" for share in WORST]
    return table(["method", "sets", "seeds", *names, "purity", "accuracy", "size CV"], lines)


def _mean(runs: pd.DataFrame, name: str) -> str:
    of_rare = runs[runs["share"].isin(WORST)]
    known = name in runs and of_rare[name].notna().all()
    return f"{_means(of_rare, name).mean():.3f}" if known else "-"


def _means(runs: pd.DataFrame, name: str, of_seeds: str = "median") -> pd.Series:
    """Per share the mean over data sets of medians over seeds, or of another summary."""
    summary = runs.groupby(["share", "dataset"])[name].agg(of_seeds)
    return summary.groupby("share").mean()


if __name__ == "__main__":
    main()
