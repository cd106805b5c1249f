"""Compare the speed of metacell methods over sizes of data: one command to a table and a picture.

usage: python benchmarks/speed.py --data DIR [--cells 2000 5000 ...] [--genes 2000] [--repeats 3]

Data of every size are resampled from real cells with fresh multinomial noise. Methods run one
after the other in processes of their own on one thread, taking turns within each repeat, so that
what else the machine does hits all of them. Epochs are timed inside the runs. A method that needs
more than ``--limit`` seconds is left out of larger data; where that keeps the authors' MetaQ from
its 300 epochs, its time is extrapolated and marked. Finished runs are kept, so an interrupted
command goes on where it stopped. Everything goes to ``results/speed.json``, ``results/speed.svg``
and the README. On Linux, pin it to one core: ``taskset -c 1 python benchmarks/speed.py ...``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Final

import numpy as np
import torch
from _datasets import CELLS_PER_METACELL, DATASETS, Dataset
from _markdown import save
from _methods import HERE, METHODS, Method
from _resample import data_set, resampled
from _runs import Run, cpu_model
from _scores import scores
from _speed_report import AUTHORS, PUBLISHED_EPOCHS, picture, report

SOURCE: Final = "pbmc3k"
CELLS: Final = (2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
OF_EPOCHS: Final = {"scmetaq-published": 4, "metaq-authors": 4}
"""Epochs of methods that are run only to time an epoch."""
COMPARED: Final = ("scmetaq", "kmeans-pca", "metacells2", "seacells", "metaq-authors")


@dataclass
class Plan:
    """What to run on one data set, and what is too slow for it."""

    dataset: Dataset
    cache: Path
    args: argparse.Namespace
    too_slow: set[str]

    def report(self, method: Method, seed: int) -> dict[str, Any] | None:
        """Report of a finished run; runs it first if need be, None if that fails."""
        run = Run(self.dataset, method, seed, self.cache)
        python = method.python(self.args.peers)
        if python is None or (method.stem in self.too_slow and not run.is_done):
            return None
        if not run.is_done and self.args.report:
            return None
        if not run.is_done:
            print(f"run   {run.stem}", flush=True)
            if not run.execute(python, self.cache, limit=self.args.limit):
                print(f"FAIL  {run.stem}: failed, or took longer than the limit", flush=True)
                self.too_slow.add(method.stem)
                return None
        return run.report()


def main() -> None:
    """Run, score, and write it all down."""
    args = command_line().parse_args()
    torch.set_num_threads(1)
    cache = args.cache or args.peers / "speed"
    too_slow: set[str] = set()
    records: list[dict[str, Any]] = []
    source, sizes = DATASETS[SOURCE], [(n, m) for m in args.genes for n in args.cells]
    if args.report:
        sizes = [(n, m) for n, m in sizes if data_set(source, n, m).path(cache).exists()]
    for n_cells, n_genes in sizes:
        dataset = resampled(source, args.data, n_cells, n_genes, cache)
        plan = Plan(dataset, cache, args, too_slow)
        size = {"n_cells": n_cells, "n_genes": n_genes}
        records += [size | record for record in of_size(plan)]
        too_slow = plan.too_slow
    results = {
        "machine": {"cpu": cpu_model(), "threads": 1},
        "source": SOURCE,
        "limit_seconds": args.limit,
        "runs": records,
    }
    save(args, "speed", results, report(results))
    picture(results, args.out.with_suffix(".svg"))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".peers")
    parser.add_argument("--cells", nargs="+", type=int, default=list(CELLS))
    parser.add_argument("--genes", nargs="+", type=int, default=[2000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once-above", type=int, default=10_000, help="cells run only once")
    parser.add_argument("--report", action="store_true", help="run nothing, report what was kept")
    parser.add_argument("--limit", type=float, default=1800, help="seconds that a run may take")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "speed.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--cache", type=Path, help="folder of finished runs; default: PEERS/speed")
    return parser


def of_size(plan: Plan) -> Iterator[dict[str, Any]]:
    """Records of all methods on one data set, in turns."""
    is_large = plan.dataset.n_metacells(plan.cache) > plan.args.once_above / CELLS_PER_METACELL
    for seed in range(1 if is_large else plan.args.repeats):
        for name, n_epochs in OF_EPOCHS.items():
            yield from epoch_record(plan, METHODS[name], n_epochs, seed)
        for name in COMPARED:
            yield from result_record(plan, METHODS[name], seed)


def epoch_record(plan: Plan, method: Method, n_epochs: int, seed: int) -> Iterator[dict[str, Any]]:
    """Seconds per epoch, from a short run."""
    report = plan.report(with_epochs(method, n_epochs), seed)
    if report is not None:
        times = epoch_times(report)
        whole = times["other_seconds"] + PUBLISHED_EPOCHS * times["epoch_seconds"]
        if method.name == AUTHORS and whole > plan.args.limit:
            plan.too_slow.add(method.stem)
        yield {"method": method.name, "seed": seed, **times}


def epoch_times(report: dict[str, Any]) -> dict[str, float]:
    """Mean seconds of an epoch, the first one apart where it can be spared, and of all else."""
    epochs = report.get("epochs", [])
    if not epochs:
        return {}
    return {
        "epoch_seconds": round(mean(epochs[1:] or epochs), 4),
        "other_seconds": round(report["cpu_seconds"] - sum(epochs), 4),
    }


def with_epochs(method: Method, n_epochs: int) -> Method:
    """The method with another number of epochs."""
    flags = (*method.flags, "--epochs", str(n_epochs))
    return replace(method, flags=flags, cache_name=f"{method.stem}-{n_epochs}epochs")


def result_record(plan: Plan, method: Method, seed: int) -> Iterator[dict[str, Any]]:
    """Seconds, memory and quality of a whole run."""
    report = plan.report(method, seed)
    if report is None:
        return
    adata, labels = plan.dataset.read(plan.cache)
    kept = Run(plan.dataset, method, seed, plan.cache).file(".metrics.json")
    if not kept.exists():
        assignment = np.load(Run(plan.dataset, method, seed, plan.cache).file(".npy"))
        kept.write_text(json.dumps(scores(adata, assignment, labels)))
    quality = json.loads(kept.read_text())
    shown = ("purity", "balanced_accuracy", "compactness")
    yield {
        "method": method.name,
        "seed": seed,
        "seconds": report["cpu_seconds"],
        "peak_mb": report["peak_mb"],
        **(epoch_times(report) if method.is_ours else {}),
        **{name: quality[name] for name in shown},
    }


if __name__ == "__main__":
    main()
