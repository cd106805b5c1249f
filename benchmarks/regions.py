"""Codes of many cells found region by region or all together: one command to a table.

usage: python benchmarks/regions.py --data DIR [--cells 50000] [--seeds 0 1 2]

On the latents of one model of the cells of ``atlas.py``, with one code per 50 cells: the error of
quantization, the purity of metacells by cell type and the CPU seconds of a search among all codes,
of the search by regions, of that without one of its steps, and of k-means.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import pandas as pd
import torch
from _datasets import LABEL
from _markdown import Report, save, table
from _methods import HERE
from atlas import CELLS_PER_METACELL, read, stored
from quality import machine
from sklearn.cluster import KMeans, MiniBatchKMeans

import scmetaq
from scmetaq import metrics
from scmetaq.nn import _regions, cluster, cluster_by_region, squared_distances
from scmetaq.nn._small_groups import set_groups_apart

EVENNESS: Final = 0.2
METRICS: Final = ("error", "purity", "accuracy", "balanced_accuracy", "size_cv", "cpu_seconds")


def main() -> None:
    """Run all searches, then write results and table."""
    args = command_line().parse_args()
    torch.set_num_threads(1)
    adata = read(stored(args.data, args.cells, args.cache))
    z, states = latents(adata)
    labels, runs = adata.obs[LABEL].astype(str).to_numpy(), []
    for seed in args.seeds:
        for name, search in SEARCHES.items():
            print("run  ", name, seed, flush=True)
            start = time.process_time()
            codes = search(z, states, len(z) // CELLS_PER_METACELL, seed)
            seconds = round(time.process_time() - start, 1)
            runs.append({"search": name, "seed": seed, "cpu_seconds": seconds})
            runs[-1] |= scores(z, codes, labels)
    results = {"machine": machine(), "cells": args.cells, "runs": runs}
    save(args, "regions", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".peers" / "atlas")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "regions.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    return parser


def latents(adata: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of a model of the cells, and which of their dimensions are states."""
    scmetaq.MetaQModel.setup_anndata(adata)
    model = scmetaq.MetaQModel(adata, adata.n_obs // CELLS_PER_METACELL)
    model.train(enable_progress_bar=False, accelerator="cpu")
    return torch.from_numpy(model.get_latent_representation()), model.module.state_dimensions


Search = Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor]
"""From latents, dimensions of states, number of codes and seed to codes."""


def among_all(z: torch.Tensor, states: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """Codes of a search among all."""
    return set_groups_apart(z, cluster(z, n, evenness=EVENNESS, seed=seed)).codes


def by_region(z: torch.Tensor, states: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """Codes found region by region."""
    options: dict[str, Any] = {"states": states, "evenness": EVENNESS, "seed": seed}
    return cluster_by_region(z.half(), n, **options).codes


def without(name: str, value: Any) -> Search:
    """The same with one of its parts replaced."""

    def search(z: torch.Tensor, states: torch.Tensor, n: int, seed: int) -> torch.Tensor:
        with mock.patch.object(_regions, name, value):
            return by_region(z, states, n, seed)

    return search


def k_means(method: Any) -> Search:
    """Centres of a method of scikit-learn on the same latents."""

    def search(z: torch.Tensor, states: torch.Tensor, n: int, seed: int) -> torch.Tensor:
        found = method(n, n_init=1, random_state=seed).fit(z.numpy())
        return torch.from_numpy(found.cluster_centers_)

    return search


SEARCHES: Final[dict[str, Search]] = {
    "among all codes": among_all,
    "by region": by_region,
    "without moves between regions": without("_MAX_MOVES", 0),
    "without exchange": without("exchange", lambda z, assignment, n, **kwargs: assignment),
    "without codes for small groups": without("set_groups_apart", lambda z, found: found),
    "k-means": k_means(KMeans),
    "mini-batch k-means": k_means(MiniBatchKMeans),
}


def scores(z: torch.Tensor, codes: torch.Tensor, labels: np.ndarray) -> dict[str, float]:
    """Error, and metrics of the metacells of the nearest codes."""
    nearest = [squared_distances(rows, codes).min(1) for rows in z.split(1_024)]
    found = torch.cat([of.indices for of in nearest]).numpy()
    return {
        "error": round(float(torch.cat([of.values for of in nearest]).mean()), 5),
        "purity": round(float(metrics.purity(found, labels).mean()), 4),
        "accuracy": round(metrics.accuracy(found, labels), 4),
        "balanced_accuracy": round(metrics.balanced_accuracy(found, labels), 4),
        "size_cv": round(metrics.size_summary(found).size_cv, 3),
    }


def report(results: dict[str, Any]) -> Report:
    """A row per search: medians over seeds, the error over that of a search among all codes."""
    runs = pd.DataFrame(results["runs"])
    medians = runs.groupby("search", sort=False)[list(METRICS)].median()
    medians["error"] /= medians["error"].iloc[0]
    lines = []
    for search, of in medians.iterrows():
        shown = [f"{of[name]:.4f}" for name in METRICS[:4]]
        lines.append([str(search), *shown, f"{of['size_cv']:.2f}", f"{of['cpu_seconds']:.1f}"])
    heading = ["search", "error", "purity", "accuracy", "balanced accuracy", "size CV", "CPU s"]
    return Report(table(heading, lines))


if __name__ == "__main__":
    main()
