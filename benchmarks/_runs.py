"""One run per data set, method and seed: its own process, kept in a cache folder."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _datasets import Dataset
from _methods import Method

THREADS = 1
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NPROC",  # read by JAX
    "METACELLS_PROCESSORS_COUNT",
    "METACELLS_MAX_PARALLEL_PILES",
)
# Linux counts the memory of the process that starts another towards the peak of that other; with a
# shell in between, which must not make way for it, the peak is that of the run alone
SMALL_PARENT = ("/bin/sh", "-c", '"$@"; exit $?', "sh")


@dataclass(frozen=True)
class Run:
    """One assignment, done or to do."""

    dataset: Dataset
    method: Method
    seed: int
    cache: Path

    @property
    def stem(self) -> str:
        """Name of its files in the cache, without ending."""
        return f"{self.dataset.name}__{self.method.stem}__{self.seed}"

    def file(self, ending: str) -> Path:
        """One of its files in the cache."""
        return self.cache / f"{self.stem}{ending}"

    @property
    def is_done(self) -> bool:
        """Whether the cache holds its assignment and its report."""
        return self.file(".npy").exists() and self.file(".json").exists()

    def report(self) -> dict[str, Any]:
        """What the runner said: version, times, memory."""
        return json.loads(self.file(".json").read_text())

    def execute(self, python: Path, folder: Path, *, limit: float | None = None) -> bool:
        """Run it and keep the result; False if it failed, with the reason in its log.

        A run of more than ``limit`` seconds fails.
        """
        part = self.file(".part.npy")
        n_metacells = self.dataset.n_metacells(folder)
        command = self.method.command(
            python, self.dataset.path(folder), n_metacells, self.seed, part
        )
        with self.file(".log").open("w") as log:
            process = subprocess.Popen(
                [*SMALL_PARENT, *command],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=one_thread(),
                start_new_session=True,
            )
            try:
                said, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                said, _ = process.communicate()
                log.write(f"stopped after {limit} s\n")
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode != 0:
            part.unlink(missing_ok=True)
            return False
        part.replace(self.file(".npy"))
        report = json.loads(said.strip().splitlines()[-1]) | {"cpu": cpu_model()}
        self.file(".json").write_text(json.dumps(report) + "\n")
        return True


def cpu_model() -> str:
    """Name of the processor, as far as the system reports it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def one_thread() -> dict[str, str]:
    """Environment of a run: this one's, with a single thread for every library."""
    return {**os.environ, "MPLBACKEND": "Agg", **dict.fromkeys(THREAD_VARIABLES, str(THREADS))}


def execute_missing(runs: list[Run], peers: Path, folder: Path, *, again: bool) -> list[str]:
    """Do, one after the other, what the cache lacks; return the runs that failed."""
    failed = []
    for run in runs:
        python = run.method.python(peers)
        if python is None or (run.is_done and not again):
            continue
        print(f"run   {run.stem}", flush=True)
        if run.execute(python, folder):
            print(f"done  {run.stem} {json.dumps(run.report())}", flush=True)
        else:
            print(f"FAIL  {run.stem}, see {run.file('.log').name} in the cache", flush=True)
            failed.append(run.stem)
    return failed


def finished(dataset: Dataset, method: Method, cache: Path) -> Iterator[Run]:
    """Runs in the cache, by seed, whoever made them."""
    seed_of = re.compile(re.escape(f"{dataset.name}__{method.stem}__") + r"(\d+)\.npy")
    found = (seed_of.fullmatch(file.name) for file in cache.glob(f"{dataset.name}__*.npy"))
    for seed in sorted(int(match[1]) for match in found if match):
        run = Run(dataset, method, seed, cache)
        if run.is_done:
            yield run


def with_kept(
    new: list[dict[str, Any]],
    file: Path,
    methods: Iterable[str],
    datasets: Iterable[str],
    part: str = "runs",
) -> list[dict[str, Any]]:
    """Records of the cache, and those of the results file whose runs the cache lacks.

    Some runs take hours and caches get lost. Records do not have the
    revision of this package: run what has changed. They are in the order of data sets, methods and
    seeds.
    """
    kept = json.loads(file.read_text()).get(part, []) if file.exists() else []
    done = {_key(record) for record in new}
    places = {name: place for place, name in enumerate([*datasets, *methods])}
    records = [*(record for record in kept if _key(record) not in done), *new]
    return sorted(
        (record for record in records if {record["dataset"], record["method"]} <= places.keys()),
        key=lambda record: (
            places[record["dataset"]],
            places[record["method"]],
            record.get("seed", 0),
        ),
    )


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    names = ("dataset", "method", "seed", "split", "held_out")
    return tuple(record.get(name) for name in names)
