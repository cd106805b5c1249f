"""What the runners share: command line, clock, thread count and the one line of JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import anndata
import numpy as np

EPOCHS: list[float] = []
"""CPU seconds of each epoch, where a runner notes them."""


class Clock:
    """CPU seconds between calls."""

    def start(self) -> None:
        """What is to be timed begins now."""
        self._since = cpu_seconds()

    def lap(self) -> float:
        """Seconds since the start or the last lap."""
        before, self._since = self._since, cpu_seconds()
        return self._since - before


def command_line(description: str) -> argparse.ArgumentParser:
    """Parser of the arguments common to all runners; a runner may add flags of its own."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("input", help="h5ad file with raw counts in X")
    parser.add_argument("n_metacells", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("output", help="npy file to write: one int64 per cell, -1 if unassigned")
    return parser


def run(
    method: str,
    package: str,
    assign: Callable[[anndata.AnnData, argparse.Namespace], np.ndarray],
    args: argparse.Namespace,
) -> None:
    """Read the cells, time ``assign``, save what it returns and print the line of JSON.

    Cells are renamed "0", "1", ... since not every peer copes with arbitrary barcodes. Reading the
    file and importing the peer stay outside the times. Whatever ``assign`` prints goes to stderr.
    """
    with contextlib.redirect_stdout(sys.stderr):
        adata = anndata.read_h5ad(args.input)
        adata.obs_names = [str(cell) for cell in range(adata.n_obs)]
        random.seed(args.seed)
        np.random.seed(args.seed)  # noqa: NPY002 - the peers draw from the global generator
        wall, cpu = time.perf_counter(), cpu_seconds()
        assignment = assign(adata, args)
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    np.save(args.output, np.asarray(assignment, dtype=np.int64))
    report = {
        "method": method,
        "version": version(package),
        "seconds": round(wall, 3),
        "cpu_seconds": round(cpu, 3),
        "peak_mb": round(max(usage.ru_maxrss for usage in usages()) / 1024, 1),
    }
    if EPOCHS:
        report["epochs"] = [round(seconds, 4) for seconds in EPOCHS]
    print(json.dumps(report))


def by_modality(adata: anndata.AnnData) -> dict[str, anndata.AnnData]:
    """Cells by modality, which a column of ``var`` names; all features are RNA without one."""
    if "modality" not in adata.var:
        return {"rna": adata}
    of_feature = adata.var["modality"].astype(str).to_numpy()
    return {kind: adata[:, of_feature == kind].copy() for kind in dict.fromkeys(of_feature)}


def usages() -> list[resource.struct_rusage]:
    """Resources used so far by this process and by its finished children."""
    return [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def cpu_seconds() -> float:
    """User and system time of this process and of its finished children."""
    return sum(usage.ru_utime + usage.ru_stime for usage in usages())
