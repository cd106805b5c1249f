"""The command line that the benchmarks share, and the step from it to finished runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from _methods import HERE, Method
from _runs import Run, execute_missing


class Done(NamedTuple):
    """What came of the runs asked for."""

    skipped: list[str]
    """Methods that cannot run here, each with its reason."""
    failed: list[str]
    """Runs that failed."""


def command_line(
    description: str,
    methods: Iterable[str],
    datasets: Iterable[str],
    *,
    out: str,
    files: str = "h5ad",
) -> argparse.ArgumentParser:
    """Arguments of a benchmark.

    Parameters
    ----------
    description
        Documentation of the benchmark, of which the first line is shown.
    methods, datasets
        Names to choose from, all by default.
    out
        Name of the results file below ``results``.
    files
        Kind of files that the data sets are in.
    """
    methods, datasets = list(methods), list(datasets)
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help=f"folder of {files} files")
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".peers")
    parser.add_argument("--methods", nargs="*", choices=methods, default=methods)
    parser.add_argument("--datasets", nargs="*", choices=datasets, default=datasets)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "results" / out)
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--cache", type=Path, help="folder of finished runs; default: PEERS/runs")
    parser.add_argument("--again", action="store_true", help="run also what the cache holds")
    return parser


def growing_command_line(
    description: str,
    datasets: Iterable[str],
    *,
    out: str,
    default: Iterable[str] | None = None,
    files: str = "h5ad",
) -> argparse.ArgumentParser:
    """Arguments of a benchmark whose results file grows run by run, see ``_in_process.py``.

    Parameters
    ----------
    description
        Documentation of the benchmark, of which the first line is shown.
    datasets
        Names to choose from.
    out
        Name of the results file below ``results``.
    default
        Data sets to begin with; all by default.
    files
        Kind of files that the data sets are in.
    """
    names = list(datasets)
    chosen = names if default is None else list(default)
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help=f"folder of {files} files")
    parser.add_argument("--datasets", nargs="*", choices=names, default=chosen)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "results" / out)
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--again", action="store_true", help="run also what the results have")
    return parser


def cache_folder(args: argparse.Namespace) -> Path:
    """Folder of finished runs, made if it is not there."""
    cache: Path = args.cache or args.peers / "runs"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def run_missing(
    args: argparse.Namespace, methods: Mapping[str, Method], datasets: list[Any], folder: Path
) -> Done:
    """Run what was asked for and the cache lacks.

    Parameters
    ----------
    args
        Parsed arguments.
    methods
        Methods by name.
    datasets
        Data sets that are there.
    folder
        Where their files are.
    """
    cache, chosen = cache_folder(args), [methods[name] for name in args.methods]
    runs = [
        Run(dataset, method, seed, cache)
        for method in chosen
        for seed in args.seeds
        for dataset in datasets
    ]
    skipped = without_environment(chosen, args.peers)
    return Done(skipped, execute_missing(runs, args.peers, folder, again=args.again))


def without_environment(methods: list[Method], peers: Path) -> list[str]:
    """Methods that cannot run here, each with its reason, which is also printed."""
    missing = [method for method in methods if method.python(peers) is None]
    reasons = [
        f"{method.name} (no environment `{method.environment}`; benchmarks/peers/setup.sh makes it)"
        for method in missing
    ]
    for reason in reasons:
        print(f"skip  {reason}", flush=True)
    return reasons
