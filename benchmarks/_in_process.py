"""Methods of this environment run within this process, and a results file that grows run by run.

A process of its own per run, as in ``quality.py``, measures time and memory; where only
assignments are compared its imports take longer than many of the runs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from _methods import HERE

sys.path.insert(0, str(HERE / "methods"))

import run_coem
import run_kmeans
import run_kmeans_paired
import run_random
import run_scmetaq
import run_scmetaq_paired

Key = tuple[Any, ...]
DEFAULT: dict[str, Any] = {"recipe": "default", "batch_key": None, "epochs": None}
ASSIGN: dict[str, tuple[Callable[..., np.ndarray], dict[str, Any]]] = {
    "scmetaq": (run_scmetaq.assign, {**DEFAULT, "evenness": 0.2}),
    "scmetaq-evenness-0": (run_scmetaq.assign, {**DEFAULT, "evenness": 0.0}),
    "kmeans-pca-scaled": (run_kmeans.assign, {"scaled": True}),
    "kmeans-pca": (run_kmeans.assign, {"scaled": False}),
    "random": (run_random.assign, {}),
}
OF_TWO: dict[str, tuple[Callable[..., np.ndarray], dict[str, Any]]] = {
    "scmetaq-joint": (run_scmetaq_paired.assign, {"use": "joint", "rna_weight": None}),
    "scmetaq-joint-0.85": (run_scmetaq_paired.assign, {"use": "joint", "rna_weight": 0.85}),
    "scmetaq-rna": (run_scmetaq_paired.assign, {"use": "rna", "rna_weight": None}),
    "scmetaq-other": (run_scmetaq_paired.assign, {"use": "other", "rna_weight": None}),
    "kmeans-concatenated": (
        run_kmeans_paired.assign,
        {"on": "concatenated", "rna_weight": 0.5, "scaled": False},
    ),
    "kmeans-concatenated-scaled": (
        run_kmeans_paired.assign,
        {"on": "concatenated", "rna_weight": 0.5, "scaled": True},
    ),
    "coem": (run_coem.assign, {"on": "latents"}),
    "spectral-rna": (run_coem.assign, {"on": "rna"}),
}
"""Methods on two modalities; COEM on RNA and chromatin only."""


def assign(method: str, adata: anndata.AnnData, n_metacells: int, seed: int) -> np.ndarray:
    """Metacell of each cell by a method of :data:`ASSIGN`; the cells are copied first."""
    function, options = ASSIGN[method]
    cells = adata.copy()
    cells.obs_names = [str(cell) for cell in range(cells.n_obs)]
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - as the runners do
    return function(cells, argparse.Namespace(n_metacells=n_metacells, seed=seed, **options))


def with_missing(
    file: Path,
    tasks: Iterable[tuple[Key, Callable[[], dict[str, Any]]]],
    *,
    names: tuple[str, ...],
    again: bool,
) -> Iterator[list[dict[str, Any]]]:
    """Do the tasks that a results file lacks; after each, all records there are.

    Parameters
    ----------
    file
        Results, JSON with a list ``runs``.
    tasks
        Key of each run, and how to do it.
    names
        Names of the parts of a key.
    again
        Whether to do also what the file has.
    """
    kept = json.loads(file.read_text())["runs"] if file.exists() else []
    records = {tuple(record[name] for name in names): record for record in kept}
    yield list(records.values())
    for key, task in tasks:
        if again or key not in records:
            print("run  ", *key, flush=True)
            records[key] = dict(zip(names, key, strict=True)) | task()
            yield list(records.values())
