"""Passes over blocks of cells on workers of dask: one command from counts to a table.

usage: python benchmarks/workers.py --data DIR [--cells 200000] [--workers 0 1 2]

The cells are those of ``atlas.py``, in a zarr store, with one metacell per 50 cells. The codes of a
model that is trained once are used by every run. Wall-clock seconds, since several processes work;
0 workers is this process alone. Each process has one thread, and runs must agree to the bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from _markdown import Report, save, table
from _methods import HERE
from _runs import one_thread
from atlas import CELLS_PER_METACELL, LABEL, read, stored
from quality import machine

MEMORY = {
    f"distributed.nanny.pre-spawn-environ.MALLOC_{name}_THRESHOLD_": 2**30
    for name in ("TRIM", "MMAP")
}
"""Workers keep freed memory for their next block, which the defaults of Dask give back."""
PASSES = ("set up", "assign", "aggregate", "evaluate")


def main() -> None:
    """Train once if need be, measure, then write results and table."""
    args = command_line().parse_args()
    if args.measure is not None:
        print(json.dumps(measured(args.file, args.model, args.measure)))
        return
    file = stored(args.data, args.cells, args.cache)
    model = args.cache / f"workers_{args.cells}"
    if not model.exists():
        train(file, model)
    runs = []
    for n in args.workers:
        command = [sys.executable, __file__, "--measure", str(n), "--file", str(file)]
        command += ["--model", str(model)]
        done = subprocess.run(command, env=one_thread(), check=True, stdout=subprocess.PIPE)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        print(runs[-1], flush=True)
    assert len({run["sha1"] for run in runs}) == 1, "results depend on the workers"
    results = {"machine": machine(), "cells": args.cells, "runs": runs}
    save(args, "workers", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of h5ad files")
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".peers" / "atlas")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "workers.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    return parser


def train(file: Path, folder: Path) -> None:
    """Train and save a model."""
    from scmetaq import MetaQModel

    adata = read(file)
    MetaQModel.setup_anndata(adata)
    model = MetaQModel(adata, adata.n_obs // CELLS_PER_METACELL)
    model.train(accelerator="cpu")
    model.save(folder)


def measured(file: Path, folder: Path, n_workers: int) -> dict[str, Any]:
    """Seconds of each pass, and a digest of the results."""
    if not n_workers:
        return passes(file, folder) | {"workers": 0}
    import dask
    from distributed import Client, LocalCluster

    dask.config.set(MEMORY)
    options = {"threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(n_workers=n_workers, **options) as cluster, Client(cluster) as client:
        client.run(warm)
        return passes(file, folder) | {"workers": n_workers}


def warm() -> int:
    """Import what takes seconds, and say which process this is."""
    import scmetaq.model  # noqa: F401

    return os.getpid()


def passes(file: Path, folder: Path) -> dict[str, Any]:
    """Do each pass once."""
    from scmetaq import MetaQModel, metrics

    warm()
    adata, seconds, start = read(file), dict[str, float](), time.perf_counter()

    def done(name: str) -> None:
        nonlocal start
        seconds[name], start = round(time.perf_counter() - start, 2), time.perf_counter()

    MetaQModel.setup_anndata(adata)
    done("set up")
    model = MetaQModel.load(folder, adata)
    start = time.perf_counter()
    found = model.get_assignments()
    done("assign")
    metacells = model._metacells_of(found["metacell"])
    done("aggregate")
    metric = metrics.evaluate(adata, found["metacell"], LABEL)
    done("evaluate")
    tables = [pd.util.hash_pandas_object(of).to_numpy() for of in (found, metric)]
    digest = b"".join(of.tobytes() for of in (*tables, metacells.X.data, metacells.X.indices))
    return {"seconds": seconds, "sha1": hashlib.sha1(digest).hexdigest()}


def report(results: dict[str, Any]) -> Report:
    """A row per number of workers, with the speed-up against one."""
    totals = {run["workers"]: sum(run["seconds"].values()) for run in results["runs"]}
    lines = []
    for run in results["runs"]:
        n = run["workers"]
        gain = f"{totals[1] / totals[n]:.2f}" if 1 in totals else "-"
        times = [f"{run['seconds'][name]:.1f}" for name in PASSES]
        lines.append([str(n), *times, f"{totals[n]:.1f}", gain])
    text = table(["workers", *PASSES, "all", "times one worker"], lines)
    return Report(f"{results['cells']:,} cells, wall-clock seconds:\n\n{text}")


if __name__ == "__main__":
    main()
