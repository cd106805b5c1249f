"""Time of metacells, of their metrics and of the report against k-means, in one warm process.

usage: python benchmarks/warm.py --data DIR [--cells 2000 5000 20000] [--repeats 3]

Cells are resampled from ``pbmc3k`` with fresh noise, one metacell per 50. In one process, after a
first call of each on a few hundred cells, ours (from raw counts: set-up, training, aggregation)
and k-means (log counts, 50 principal components of scikit-learn, k-means from one start) take
turns; then the metrics and the report of our metacells are timed. The *first call* is that of the
process on the few cells: what is compiled then is cached by numba for later processes.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import scanpy as sc
import scvi
import torch
from _datasets import CELLS_PER_METACELL, DATASETS
from _markdown import Report, save, table
from _resample import resampled
from _runs import cpu_model
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

import scmetaq
from scmetaq.report import write_report

HERE = Path(__file__).resolve().parent
SOURCE, N_GENES, N_FIRST = "pbmc3k", 2_000, 600
PARTS = ("metacells", "kmeans", "metrics", "report")


def main() -> None:
    """Time all sizes, and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--cells", nargs="+", type=int, default=[2_000, 5_000, 20_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".peers" / "speed")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "warm.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scvi.settings.verbosity = logging.WARNING
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    sets = {n: resampled(DATASETS[SOURCE], args.data, n, N_GENES, args.cache) for n in args.cells}
    read = {n: of.read(args.cache)[0] for n, of in sets.items()}
    few = read[args.cells[0]][:N_FIRST].copy()
    first = timed_parts(few)
    runs = [
        {"n_cells": n, "repeat": repeat, **timed_parts(adata)}
        for repeat in range(args.repeats)
        for n, adata in read.items()
    ]
    results = {"machine": {"cpu": cpu_model(), "threads": 1}, "first": first, "runs": runs}
    save(args, "warm", results, report(results))


def timed_parts(adata: anndata.AnnData) -> dict[str, float]:
    """CPU seconds of each part."""
    n_codes = round(adata.n_obs / CELLS_PER_METACELL)
    seconds = {}
    seconds["kmeans"], _ = timed(lambda: kmeans(adata, n_codes))
    seconds["metacells"], model = timed(lambda: metacells(adata.copy(), n_codes))
    metacell = model.get_assignments()["metacell"]
    seconds["metrics"], metrics = timed(lambda: scmetaq.metrics.evaluate(adata, metacell))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        seconds["report"], _ = timed(lambda: write_report(page, adata, metacell, metrics=metrics))
    return seconds


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and what it returns."""
    started = time.process_time()
    found = function()
    return time.process_time() - started, found


def metacells(adata: anndata.AnnData, n_codes: int) -> scmetaq.MetaQModel:
    """Raw counts to metacells."""
    scvi.settings.seed = 0
    scmetaq.MetaQModel.setup_anndata(adata)
    model = scmetaq.MetaQModel(adata, n_metacells=n_codes)
    model.train(accelerator="cpu", enable_progress_bar=False)
    model.get_metacells()
    return model


def kmeans(adata: anndata.AnnData, n_codes: int) -> np.ndarray:
    """Raw counts to clusters of cells."""
    copy = adata.copy()
    sc.pp.normalize_total(copy, target_sum=1e4)
    sc.pp.log1p(copy)
    z = PCA(50, random_state=0).fit_transform(copy.X.toarray())
    return KMeans(n_codes, n_init=1, random_state=0).fit_predict(z)


def report(results: dict[str, Any]) -> Report:
    """Medians, and ratios to k-means."""
    sizes = dict.fromkeys(run["n_cells"] for run in results["runs"])
    heading = ["", *(f"{n:,} cells" for n in sizes), "first call"]
    of = {
        n: {p: np.median([r[p] for r in results["runs"] if r["n_cells"] == n]) for p in PARTS}
        for n in sizes
    }
    named = {
        "metacells": "metacells",
        "kmeans": "k-means",
        "metrics": "metrics",
        "report": "report",
    }
    rows = [
        [name, *(f"{of[n][part]:.2f}" for n in sizes), f"{results['first'][part]:.1f}"]
        for part, name in named.items()
    ]
    ratios = {"metacells": "kmeans", "metrics": "metacells", "report": "metacells"}
    rows += [
        [f"{part} / {named[to]}", *(f"{of[n][part] / of[n][to]:.1f}" for n in sizes), ""]
        for part, to in ratios.items()
    ]
    text = f"{results['machine']['cpu']}, one thread. CPU seconds, medians.\n\n"
    return Report(text + table(heading, rows))


if __name__ == "__main__":
    main()
