"""How much choices of method and seeds matter, as in Fig. 6 of the MetaQ paper: one command.

usage: python benchmarks/robustness.py --data DIR [--datasets ...] [--seeds 0 1 2] [--studies ...]

Starts of the codebook, distances, numbers of cells per metacell and bounds of their sizes, and the
precision, are changed one at a time, the rest being the default. The published recipe does not
refine codes, so that start and distance matter more: they are varied there too, at fewer epochs
than published (``--published-epochs``) and on the two smallest sets, unless ``--datasets`` says
otherwise. Runs that ``results/robustness.json`` has are not repeated, unless ``--again`` says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scvi
from _command_line import growing_command_line
from _datasets import DATASETS
from _in_process import Key, assign, with_missing
from _markdown import Report, save, table
from quality import machine

from scmetaq import MetaQModel, metrics

NAMES: Final = ("dataset", "study", "method", "setting", "seed")
DEFAULT_SETS: Final = ("sc_mixology_5batch", "pbmc_facs_sorted", "pbmc3k")
SMALLEST_SETS: Final = ("pbmc_3chemistries_1200_hvg", "kang_pbmc_labelled_1267genes")
GRANULARITIES: Final = (25, 50, 75, 100, 150)
SIZES: Final = ((None, None), (10, 150), (25, 100), (40, 60))
"""Fewest and most cells of metacells that have 50 on average."""
PUBLISHED: Final = ", published recipe"
OF_THE_DEFAULT: Final = ("start", "distance", "granularity", "sizes", "precision")
DONE: Final[dict[str, dict[str, Any]]] = {}
"""Scores by data set, method, seed and options, of this command."""
STUDIES: Final = (
    *OF_THE_DEFAULT,
    f"start{PUBLISHED}",
    f"distance{PUBLISHED}",
)
DEFAULTS: Final = {
    "codebook_init": "kmeans",
    "distance": "euclidean",
    "cells_per_metacell": 50,
    "min_size": None,
    "max_size": None,
    "precision": "32-true",
}
"""Settings of the default recipe, which several studies have as one of theirs."""
SCORES: Final = (
    "purity",
    "accuracy",
    "balanced_accuracy",
    "compactness",
    "separation",
    "size_cv",
)
SUMMARY: Final = ("start", "sizes", "precision")
"""Studies in the table of the README."""


def main() -> None:
    """Run what is missing, then write results and table."""
    args = command_line().parse_args()
    for records in with_missing(args.out, tasks(args), names=NAMES, again=args.again):
        results = {"machine": machine(), "published_epochs": args.published_epochs}
        results |= {"runs": records}
        if records:
            save(args, "robustness", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = growing_command_line(__doc__, DATASETS, out="robustness.json", default=())
    parser.add_argument("--studies", nargs="*", choices=STUDIES, default=STUDIES)
    parser.add_argument("--published-epochs", type=int, default=60)
    return parser


def settings(study: str, published_epochs: int) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Method, setting and arguments of a run, for all settings of a study."""
    what, is_published = study.removesuffix(PUBLISHED), study.endswith(PUBLISHED)
    published = {"recipe": "published", "train": {"max_epochs": published_epochs}}
    more: dict[str, Any] = published if is_published else {}
    if what == "start":
        for init in ("kmeans", "random", "geometric"):
            yield "scmetaq", init, {"codebook_init": init, **more}
    elif what == "distance":
        for distance in ("euclidean", "cosine"):
            yield "scmetaq", distance, {"distance": distance, **more}
    elif what == "granularity":
        methods = ("scmetaq", "kmeans-pca", "kmeans-pca-scaled")
        for cells, method in itertools.product(GRANULARITIES, methods):
            yield method, cells, {"cells_per_metacell": cells}
    elif what == "sizes":
        for least, most in SIZES:
            name = "free" if least is None else f"{least} to {most}"
            yield "scmetaq", name, {"train": {"min_size": least, "max_size": most}}
    elif what == "precision":
        for precision in ("32-true", "bf16-mixed"):
            yield "scmetaq", precision, {"train": {"precision": precision}}


def tasks(args: argparse.Namespace) -> Iterator[tuple[Key, Callable[[], dict[str, Any]]]]:
    """All runs that were asked for, seed by seed."""
    for seed, name in itertools.product(args.seeds, args.datasets or DATASETS):
        adata, labels = DATASETS[name].read(args.data)
        for study in args.studies:
            usual = SMALLEST_SETS if study.endswith(PUBLISHED) else DEFAULT_SETS
            if name not in (args.datasets or usual):
                continue
            for method, setting, options in settings(study, args.published_epochs):
                key = (name, study, method, setting, seed)
                yield key, lambda key=key, of=(adata, labels, options): run(key, *of)


def run(
    key: Key, adata: anndata.AnnData, labels: pd.Series, options: dict[str, Any]
) -> dict[str, Any]:
    """One assignment and its scores; a run of the same options is not repeated."""
    dataset, _, method, _, seed = key
    options = dict(options) if "recipe" in options else changed(options)
    same = json.dumps([dataset, method, seed, options])
    if same not in DONE:
        n_metacells = round(adata.n_obs / options.pop("cells_per_metacell", 50))
        start = time.perf_counter()
        if method == "scmetaq":
            found = assign_by_model(adata.copy(), n_metacells, seed, **options)
        else:
            found = assign(method, adata, n_metacells, seed)
        seconds = round(time.perf_counter() - start, 1)
        DONE[same] = {"n_metacells": n_metacells, "seconds": seconds}
        DONE[same] |= scores(adata, found, labels)
    return DONE[same]


def changed(options: dict[str, Any]) -> dict[str, Any]:
    """Options without those that are the default."""
    kept = {
        name: changed(value) if isinstance(value, dict) else value
        for name, value in options.items()
        if name not in DEFAULTS or value != DEFAULTS[name]
    }
    return {name: value for name, value in kept.items() if value != {}}


def assign_by_model(
    adata: anndata.AnnData,
    n_metacells: int,
    seed: int,
    *,
    train: dict[str, Any] | None = None,
    **options: Any,
) -> np.ndarray:
    """Metacell of each cell by the model with some other arguments."""
    scvi.settings.seed = seed
    MetaQModel.setup_anndata(adata)
    model = MetaQModel(adata, n_metacells, **options)
    model.train(accelerator="cpu", logger=False, enable_progress_bar=False, **(train or {}))
    return pd.factorize(model.get_assignments()["metacell"], sort=True)[0]


def scores(adata: anndata.AnnData, assignment: np.ndarray, labels: pd.Series) -> dict[str, float]:
    """Scores of an assignment; cells without a label count for those that need none."""
    quality = metrics.evaluate(adata, assignment, labels).groupby("metric")["value"].mean()
    return {name: round(float(quality[name]), 5) for name in SCORES}


def report(results: dict[str, Any]) -> Report:
    """Per study and setting the mean over sets of medians over seeds, and its range."""
    runs, parts = pd.DataFrame(results["runs"]), []
    for study, of_study in runs.groupby("study", sort=False):
        names = ", ".join(of_study["dataset"].unique())
        parts += [f"## {study[0].upper()}{study[1:]}", f"{names}.", of_settings(of_study)]
    return Report(of_settings(runs[runs["study"].isin(SUMMARY)]), "\n\n".join(parts))


def of_settings(runs: pd.DataFrame) -> str:
    """A row per study, setting and method."""
    lines = []
    for key, of_row in runs.groupby(["study", "setting", "method"], sort=False):
        seeds = of_row.groupby("dataset")["seed"].nunique()
        n_seeds = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()}–{seeds.max()}"
        cells = [_cell(of_row, name) for name in SCORES]
        lines.append([*map(str, key), str(len(seeds)), n_seeds, *cells])
    names = [name.replace("_", " ") for name in SCORES]
    return table(["study", "setting", "method", "sets", "seeds", *names], lines, n_text=3)


def _cell(runs: pd.DataFrame, name: str) -> str:
    """Mean over sets of medians over seeds; half the range over seeds, averaged over sets."""
    if name not in runs or runs[name].isna().any():
        return "-"
    by_set = runs.groupby("dataset")[name]
    half = ((by_set.max() - by_set.min()) / 2).mean()
    return f"{by_set.median().mean():.3f} ± {half:.3f}"


if __name__ == "__main__":
    main()
