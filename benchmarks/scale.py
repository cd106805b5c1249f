"""Cost of metrics and spectral metacells with many cells: one command from counts to a table.

usage: python benchmarks/scale.py --data DIR [--cells 10000 100000] [--cache DIR]

Data of every size are resampled from ``pbmc3k`` (see ``_resample.py``), with one metacell per 50
cells by k-means on principal components. Every measurement has a process of its own on one thread.
Compared with separation from the matrix of all pairs of cells, and with scikit-learn's spectral
clustering of the same graph. Measurements that do not fit into memory, or take longer than
``--limit`` seconds, are left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import scanpy as sc
from _datasets import DATASETS, LABEL, n_metacells
from _markdown import Report, save, table
from _methods import HERE
from _resample import resampled
from _runs import one_thread
from quality import machine
from sklearn.cluster import KMeans, SpectralClustering

from scmetaq import metrics, tl
from scmetaq.tl._spectral import neighbor_affinity

SOURCE: Final = "pbmc3k"
N_GENES: Final = 2_000
N_COMPONENTS: Final = 30
N_SPECTRAL: Final = 200
"""Metacells of 10,000 cells by spectral clustering; of more cells in proportion."""
LARGEST_MATRIX: Final = 20_000
"""Cells of which the matrix of all pairs is made."""


def main() -> None:
    """Measure everything, then write results and table."""
    args = command_line().parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.file)))
        return
    args.cache.mkdir(parents=True, exist_ok=True)
    runs = []
    for n_cells in args.cells:
        file = prepared(args.data, n_cells, args.cache)
        for what in MEASURED:
            if what not in args.what or (what in QUADRATIC and n_cells > LARGEST_MATRIX):
                continue
            print("run  ", n_cells, what, flush=True)
            runs.append({"cells": n_cells, "what": what} | in_process(what, file, args.limit))
    results = {"machine": machine(), "source": SOURCE, "n_genes": N_GENES, "runs": runs}
    save(args, "scale", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of h5ad files")
    parser.add_argument("--cells", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--what", nargs="+", choices=MEASURED, default=list(MEASURED))
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".peers" / "resampled")
    parser.add_argument("--limit", type=float, default=1_800, help="seconds of one measurement")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scale.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--measure", choices=MEASURED, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser


def prepared(data: Path, n_cells: int, cache: Path) -> Path:
    """Cells with principal components and metacells, made once."""
    file = cache / f"scale_{n_cells}.h5ad"
    if not file.exists():
        source = resampled(DATASETS[SOURCE], data, n_cells, N_GENES, cache)
        adata, _ = source.read(cache)
        log = adata.copy()
        sc.pp.normalize_total(log, target_sum=1e4)
        sc.pp.log1p(log)
        sc.pp.pca(log, n_comps=N_COMPONENTS, random_state=0)
        adata.obsm["X_pca"] = log.obsm["X_pca"]
        kmeans = KMeans(n_metacells(n_cells), init="random", n_init=1, max_iter=20, random_state=0)
        adata.obs["metacell"] = kmeans.fit_predict(log.obsm["X_pca"]).astype(str)
        adata.write_h5ad(file)
    return file


def in_process(what: str, file: Path, limit: float) -> dict[str, Any]:
    """Seconds and memory of a measurement; empty if it did not end in time."""
    command = [sys.executable, __file__, "--measure", what, "--file", str(file)]
    try:
        done = subprocess.run(
            command, env=one_thread(), check=True, timeout=limit, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        return {}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(what: str, file: Path) -> dict[str, float]:
    """Seconds of CPU of the work, and the peak memory of the process, cells and libraries too."""
    adata = anndata.read_h5ad(file)
    start = time.process_time()
    MEASURED[what](adata)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_seconds": round(seconds, 1), "peak_mb": round(peak)}


def evaluate(adata: anndata.AnnData) -> None:
    """All metrics but those of diffusion components and the test for mixed states."""
    metrics.evaluate(adata, "metacell", LABEL)


def evaluate_diffusion(adata: anndata.AnnData) -> None:
    """All metrics but the test for mixed states."""
    metrics.evaluate(adata, "metacell", LABEL, use_rep="X_pca")


def evaluate_everything(adata: anndata.AnnData) -> None:
    """All metrics."""
    metrics.evaluate(adata, "metacell", LABEL, use_rep="X_pca", find_dubious=True)


def separation(adata: anndata.AnnData) -> None:
    """Exact separation, without a sample of cells."""
    metrics.separation(log_normalised(adata), adata.obs["metacell"])


def separation_of_a_matrix(adata: anndata.AnnData) -> None:
    """The same from the matrix of all correlations."""
    distance = 1 - np.corrcoef(log_normalised(adata).toarray())
    metacells = adata.obs["metacell"].to_numpy()
    for metacell in np.unique(metacells):
        own = metacells == metacell
        distance[np.ix_(own, ~own)].min(1).mean()


def log_normalised(adata: anndata.AnnData) -> Any:
    """log1p counts per 10k."""
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata.X


def spectral_metacells(adata: anndata.AnnData) -> None:
    """Spectral metacells of this package."""
    tl.spectral_metacells(adata.obsm["X_pca"], round(N_SPECTRAL * adata.n_obs / 10_000))


def spectral_clustering(adata: anndata.AnnData) -> None:
    """Spectral clustering of the same graph by scikit-learn, a vector per cluster."""
    graph = neighbor_affinity(adata.obsm["X_pca"], n_neighbors=15, seed=0)
    SpectralClustering(
        N_SPECTRAL, affinity="precomputed", assign_labels="kmeans", n_init=1, random_state=0
    ).fit(graph)


MEASURED: Final[dict[str, Callable[[anndata.AnnData], None]]] = {
    "evaluate": evaluate,
    "evaluate, with diffusion metrics": evaluate_diffusion,
    "evaluate, with dubious metacells too": evaluate_everything,
    "separation, exact": separation,
    "separation, all pairs at once": separation_of_a_matrix,
    "spectral_metacells": spectral_metacells,
    "SpectralClustering of scikit-learn": spectral_clustering,
}
QUADRATIC: Final = (
    "separation, exact",
    "separation, all pairs at once",
    "SpectralClustering of scikit-learn",
)
"""Measured only where the matrix of all pairs is made."""


def report(results: dict[str, Any]) -> Report:
    """A row per measurement, columns per number of cells."""
    runs = results["runs"]
    sizes, lines = sorted({run["cells"] for run in runs}), []
    for what in dict.fromkeys(run["what"] for run in runs):
        found = {run["cells"]: run for run in runs if run["what"] == what}
        lines.append([what, *_cells(found, sizes)])
    heading = [f"{n:,} cells: {unit}" for n in sizes for unit in ("CPU s", "peak MB")]
    return Report(table(["what", *heading], lines))


def _cells(found: dict[int, dict[str, Any]], sizes: list[int]) -> Iterator[str]:
    for size in sizes:
        run = found.get(size)
        if run is None:
            yield from ("-", "-")
        elif "cpu_seconds" not in run:
            yield from ("too long", "-")
        else:
            yield from (f"{run['cpu_seconds']:,.0f}", f"{run['peak_mb']:,}")


if __name__ == "__main__":
    main()
