"""Dubious metacells by scmetaq and by mcRigor's Python port: one command to a table.

usage: python benchmarks/dubious.py --data DIR --port OMICVERSE/external/mcRigor/rigor.py

Both test the same assignments on the same log counts, of the 2,000 most variable genes. The port is
one file that imports nothing of omicverse: of the wheel (``pip download omicverse --no-deps``) only
it is needed. ``one profile`` are metacells of scmetaq whose counts are drawn from the sum of their
cells at the cells' own depths: what a test calls there is false. Writes ``results/dubious.json``
and a table: the share of metacells called, the share called alike, and the correlation of the two
statistics. What the results file has is not run again without ``--again``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from _command_line import growing_command_line
from _datasets import DATASETS, n_metacells
from _in_process import Key, assign, with_missing
from _markdown import Report, save, table
from quality import machine

from scmetaq import metrics

DEFAULT_SETS: Final = ("sc_mixology_5batch", "pbmc_facs_sorted", "pbmc3k")
METHODS: Final = ("scmetaq", "kmeans-pca", "random", "one profile")
N_GENES: Final = 2000


def main() -> None:
    """Do what is missing, then write results and table."""
    parser = growing_command_line(__doc__, DATASETS, out="dubious.json", default=DEFAULT_SETS)
    parser.add_argument("--port", type=Path, required=True, help="rigor.py of omicverse")
    parser.set_defaults(seeds=[0])
    args = parser.parse_args()
    names = ("dataset", "method", "seed")
    for records in with_missing(args.out, tasks(args), names=names, again=args.again):
        results = {"machine": machine(), "n_genes": N_GENES, "runs": records}
        if records:
            save(args, "dubious", results, report(results))


def tasks(args: argparse.Namespace) -> Iterator[tuple[Key, Callable[[], dict[str, Any]]]]:
    """Every run, and how to do it."""
    port = imported(args.port)
    for name in args.datasets:
        adata, _ = DATASETS[name].read(args.data)
        for method in METHODS:
            for seed in args.seeds:
                of = (adata, method, seed)
                yield (name, method, seed), lambda of=of: run(port, *of)


def imported(file: Path) -> ModuleType:
    """The module of a file."""
    spec = spec_from_file_location("rigor", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["rigor"] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    return module


def run(port: ModuleType, adata: anndata.AnnData, method: str, seed: int) -> dict[str, Any]:
    """Both tests of an assignment."""
    real = "scmetaq" if method == "one profile" else method
    found = assign(real, adata, n_metacells(adata.n_obs), seed)
    codes = pd.factorize(pd.Series(found))[0]
    cells = anndata.AnnData(sp.csr_matrix(adata.X))
    if method == "one profile":
        cells.X = of_one_profile(cells.X, codes, np.random.default_rng(seed))
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    sc.pp.highly_variable_genes(cells, n_top_genes=min(N_GENES, cells.n_vars))
    X = sp.csr_matrix(cells.X[:, cells.var["highly_variable"].to_numpy()])
    record: dict[str, Any] = {"n_metacells": len(np.unique(codes))}
    start = time.process_time()
    ours = metrics.dubious(X, codes, seed=seed)
    record["seconds: scmetaq"] = round(time.process_time() - start, 1)
    start = time.process_time()
    theirs = port.rigor_detect(X, codes, feature_use=0, random_state=seed).per_metacell
    record["seconds: mcRigor"] = round(time.process_time() - start, 1)
    theirs = theirs.set_index("metacell_id").loc[ours.index]
    called = theirs["label"] == "dubious"
    judged = ours["statistic"].notna()
    return record | {
        "called: scmetaq": round(float(ours["dubious"].mean()), 4),
        "called: mcRigor": round(float(called.mean()), 4),
        "called alike": round(float((ours["dubious"] == called).mean()), 4),
        "correlation": round(float(ours["statistic"][judged].corr(theirs["mcDiv"][judged])), 4),
    }


def of_one_profile(counts: sp.csr_matrix, codes: np.ndarray, rng: np.random.Generator) -> Any:
    """Counts of each cell drawn from the sum of its metacell, at its own depth."""
    drawn = np.zeros(counts.shape, np.float32)
    depth = np.asarray(counts.sum(1)).ravel().astype(int)
    for metacell in range(codes.max() + 1):
        cells = np.flatnonzero(codes == metacell)
        profile = np.asarray(counts[cells].sum(0)).ravel().astype(float)
        drawn[cells] = rng.multinomial(depth[cells], profile / profile.sum())
    return sp.csr_matrix(drawn)


def report(results: dict[str, Any]) -> Report:
    """A row per data set and method: means over seeds."""
    columns = ["called: scmetaq", "called: mcRigor", "called alike", "correlation"]
    seconds = ["seconds: scmetaq", "seconds: mcRigor"]
    lines = []
    for (name, method), of in pd.DataFrame(results["runs"]).groupby(
        ["dataset", "method"], sort=False
    ):
        mean = of[["n_metacells", *columns, *seconds]].mean()
        numbers = [f"{mean[column]:.2f}" for column in columns]
        times = [f"{mean[column]:.0f}" for column in seconds]
        lines.append([str(name), str(method), f"{mean['n_metacells']:.0f}", *numbers, *times])
    heading = ["data set", "metacells of", "metacells", "dubious: scmetaq", "dubious: mcRigor"]
    heading += ["called alike", "correlation", "CPU s: scmetaq", "CPU s: mcRigor"]
    return Report(table(heading, lines, n_text=2))


if __name__ == "__main__":
    main()
