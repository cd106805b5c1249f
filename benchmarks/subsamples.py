"""Methods on random halves, quarters and eighths of the data sets: what holds with few cells.

usage: python benchmarks/subsamples.py --data DIR [--datasets ...] [--methods ...] [--seeds 0 1 2]

RNA sets and sets of two modalities, one metacell per 50 cells and at least ten; parts of fewer than
400 cells are left out. The seed draws the cells and is that of the method. Types with fewer than
25 cells, half a metacell, are scored apart. Runs that ``results/subsamples.json`` has are not
repeated, unless ``--again`` says so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
from _command_line import growing_command_line
from _datasets import CELLS_PER_METACELL, DATASETS, LABEL
from _in_process import ASSIGN, OF_TWO, Key, assign, with_missing
from _markdown import Report, save, table
from _methods import HERE
from _paired import GATES, MODALITY, PAIRED, by_modality, prepare_all
from quality import machine
from run_kmeans_paired import reduced

from scmetaq import metrics

NAMES: Final = ("dataset", "method", "share", "seed")
SHARES: Final = (1.0, 0.5, 0.25, 0.125)
FEWEST: Final = 400
RARE: Final = CELLS_PER_METACELL // 2
"""Cells of a type below which it is scored apart."""
RNA: Final = ("scmetaq", "kmeans-pca-scaled", "kmeans-pca")
SHOWN: Final = ("accuracy", "balanced_accuracy", "purity", "compactness", "rare", "size_cv")
OF_PEAKS: Final = ("coem", "spectral-rna")
"""Methods on RNA and chromatin only."""
FIXED: Final = "scmetaq-joint-0.85"
"""Ours with a weight of RNA that is given, on the pages of the sets only."""
JOINT, ALONE = "scmetaq-joint", "scmetaq-rna"
SHOWN_OF_PEAKS: Final = (
    *("accuracy", "balanced_accuracy", "purity", "rare", "size_cv"),
    *("diffusion_separation", "diffusion_separation_of_random"),
    *("diffusion_separation_other", "diffusion_separation_of_random_other", "cpu_seconds"),
)


def main() -> None:
    """Run what is missing, then write results and tables."""
    args = command_line().parse_args()
    for records in with_missing(args.out, tasks(args), names=NAMES, again=args.again):
        results = {"machine": machine(), "runs": records}
        if records:
            save(args, "subsamples", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = growing_command_line(__doc__, [*DATASETS, *PAIRED], out="subsamples.json")
    methods = [*RNA, *OF_TWO]
    parser.add_argument("--methods", nargs="*", choices=methods, default=methods)
    parser.add_argument("--shares", nargs="*", type=float, default=SHARES)
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".peers" / "paired")
    return parser


def tasks(args: argparse.Namespace) -> Iterator[tuple[Key, Callable[[], dict[str, Any]]]]:
    """All runs that were asked for, set by set."""
    for name in args.datasets:
        if name in DATASETS:
            adata, of_cell = DATASETS[name].read(args.data)
            labels, methods = {LABEL: of_cell}, RNA
        else:
            (dataset,) = prepare_all([name], args.data, args.cache)
            adata = anndata.read_h5ad(dataset.path(args.cache))
            _, labels = dataset.read(args.cache)
            methods = tuple(
                OF_TWO if has_peaks(adata) else [n for n in OF_TWO if n not in OF_PEAKS]
            )
        for share in args.shares:
            for seed in args.seeds:
                n = round(share * adata.n_obs)
                if n < FEWEST:
                    continue
                cells = np.sort(np.random.default_rng(seed).choice(adata.n_obs, n, replace=False))
                for method in [name for name in methods if name in args.methods]:
                    yield (
                        (name, method, share, seed),
                        partial(run, method, adata, labels, cells, seed),
                    )


def run(
    method: str, adata: anndata.AnnData, labels: dict[str, pd.Series], cells: np.ndarray, seed: int
) -> dict[str, Any]:
    """Scores of one assignment, of each kind of labels."""
    part = adata[cells].copy()
    counted = np.asarray(part.X.sum(0)).ravel() > 0
    part = part[:, counted].copy()
    n_metacells = max(10, round(part.n_obs / CELLS_PER_METACELL))
    start = time.process_time()
    if method in ASSIGN:
        found = assign(method, part, n_metacells, seed)
    else:
        function, options = OF_TWO[method]
        args = argparse.Namespace(n_metacells=n_metacells, seed=seed, **options)
        found = function(part.copy(), args)
    scores: dict[str, Any] = {"n_cells": part.n_obs, "n_metacells": n_metacells}
    scores["cpu_seconds"] = round(time.process_time() - start, 2)
    if method in OF_TWO and LABEL in labels:
        scores["recall"] = of_types(found, labels[LABEL].iloc[cells]).round(4).to_dict()
    scores["size_cv"] = round(metrics.size_summary(found).size_cv, 4)
    for kind, counts in (by_modality(part) if method in OF_TWO else {"rna": part}).items():
        end = "" if kind == "rna" else "_other"
        judged = metrics.evaluate(counts, found).set_index("metric")["value"]
        scores["compactness" + end] = round(float(judged["compactness"].mean()), 4)
        if has_peaks(part):
            components = metrics.diffusion_map(reduced(kind, counts, seed=0))
            for metric in (metrics.diffusion_separation, metrics.diffusion_compactness):
                name = metric.__name__ + end
                scores[name] = round(float(metric(components, found).mean()), 6)
            shuffled = np.random.default_rng(0).permutation(found)
            by_chance = metrics.diffusion_separation(components, shuffled).mean()
            scores["diffusion_separation_of_random" + end] = round(float(by_chance), 6)
    for name, of_cell in labels.items():
        scores |= {
            key + suffix(name): value
            for key, value in of_labels(found, of_cell.iloc[cells]).items()
        }
    return scores


def has_peaks(cells: anndata.AnnData) -> bool:
    """Whether cells have chromatin counts."""
    return MODALITY in cells.var and "atac" in set(cells.var[MODALITY])


def suffix(labels: str) -> str:
    """What follows the names of scores: nothing for cell types."""
    return "_gates" if labels == GATES else ""


def of_labels(found: np.ndarray, labels: pd.Series) -> dict[str, float]:
    """Accuracy, purity, and recall of types, apart of the common ones and of the rare ones."""
    known = labels.notna().to_numpy()
    a, b = found[known], labels[known].astype(str).to_numpy()
    recall = of_types(found, labels)
    n_cells = pd.Series(b).value_counts().loc[recall.index]
    is_rare = n_cells < RARE
    scores = {
        "accuracy": float(recall @ n_cells / len(b)),
        "purity": float(metrics.purity(a, b).mean()),
        "balanced_accuracy": float(recall[~is_rare].mean()),
    }
    scores |= {"rare": float(recall[is_rare].mean())} if is_rare.any() else {}
    return {name: round(value, 4) for name, value in scores.items()}


def of_types(found: np.ndarray, labels: pd.Series) -> pd.Series:
    """Share of the cells of each type that are in metacells of which it is the majority."""
    known = labels.notna().to_numpy()
    a, b = found[known], labels[known].astype(str).to_numpy()
    majority = pd.Series(b).groupby(a).transform(lambda group: group.mode()[0]).to_numpy()
    return pd.Series(majority == b).groupby(b).mean()


def report(results: dict[str, Any]) -> Report:
    """Means over sets of medians over seeds, by share; each set on a page of its own."""
    runs = pd.DataFrame(results["runs"])
    several = runs["method"].isin(list(OF_TWO))
    is_of_peaks = runs["method"].isin(OF_PEAKS)
    of_sets = runs["dataset"].isin(runs.loc[is_of_peaks, "dataset"])
    is_fixed = runs["method"] == FIXED
    short = [
        means(runs[~several], SHOWN),
        means(on_same_draws(runs[several & ~is_of_peaks & ~is_fixed]), with_other(SHOWN)),
        gains(runs),
        means(on_same_draws(runs[of_sets & ~is_fixed]), SHOWN_OF_PEAKS),
    ]
    full = []
    for name, of_set in runs.groupby("dataset", sort=False):
        columns = with_other(SHOWN) if name in PAIRED else SHOWN
        full += [f"## {name}", means(of_set, columns)]
        full += [recalls(of_set)] if name in PAIRED and "recall" in of_set else []
    return Report("\n\n".join(short), "\n\n".join(full))


def on_same_draws(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs on the draws that every method has grouped."""
    n_methods = runs.groupby(["dataset", "share", "seed"])["method"].transform("nunique")
    most = runs.assign(n=n_methods).groupby(["dataset", "share"])["n"].transform("max")
    return runs[n_methods == most]


def gains(runs: pd.DataFrame) -> str:
    """Both modalities less RNA alone on the same cells: mean and standard error over draws."""
    columns = ["accuracy", "balanced_accuracy", "accuracy_gates", "balanced_accuracy_gates"]
    by = runs.set_index(["dataset", "share", "seed"])
    lines = []
    for method in (JOINT, FIXED):
        more = by.loc[by["method"] == method, columns] - by.loc[by["method"] == ALONE, columns]
        for (name, share), of_draws in more.dropna(how="all").groupby(level=[0, 1], sort=False):
            error = of_draws.std() / np.sqrt(len(of_draws))
            numbers = [
                f"{mean:+.3f} ± {error[key]:.3f}" if np.isfinite(mean) else "-"
                for key, mean in of_draws.mean().items()
            ]
            lines.append([str(name), f"{share:g}", method, str(len(of_draws)), *numbers])
    heading = [
        name.replace("_", " ") for name in ("data set", "share", "method", "draws", *columns)
    ]
    return table(heading, sorted(lines, key=lambda line: line[0]), n_text=3)


def recalls(runs: pd.DataFrame) -> str:
    """Share of the cells of each type in metacells of the type, means over the smallest parts."""
    some = runs[(runs["share"] == runs["share"].min()) & runs["recall"].notna()]
    if some.empty:
        return ""
    of_method = {
        str(method): pd.DataFrame(rows["recall"].tolist()).mean()
        for method, rows in some.groupby("method", sort=False)
    }
    lines = [
        [str(name), *(f"{value:.2f}".replace("nan", "-") for value in row)]
        for name, row in pd.DataFrame(of_method).iterrows()
    ]
    return table([f"type, share {some['share'].min():g}", *of_method], lines, n_text=1)


def with_other(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Columns, and those of the second modality."""
    return (*columns, "compactness_other", "accuracy_gates", "balanced_accuracy_gates")


def means(runs: pd.DataFrame, columns: tuple[str, ...]) -> str:
    """A row per share and method."""
    columns = tuple(name for name in columns if name in runs and runs[name].notna().any())
    lines = []
    for (share, method), rows in runs.groupby(["share", "method"], sort=False):
        medians = rows.groupby("dataset")[list(columns)].median()
        numbers = [f"{medians[name].mean():.3f}".replace("nan", "-") for name in columns]
        lines.append(
            [f"{share:g}", method, str(len(medians)), str(rows["seed"].nunique()), *numbers]
        )
    lines.sort(key=lambda line: -float(line[0]))
    heading = ["share", "method", "sets", "seeds", *(name.replace("_", " ") for name in columns)]
    return table(heading, lines, n_text=2)


if __name__ == "__main__":
    main()
