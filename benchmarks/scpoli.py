"""Compare embeddings that integrate batches, and labels that they transfer: counts to tables.

usage: python benchmarks/scpoli.py --data DIR [--methods ...] [--datasets ...] [--seeds 0 1 2]

Every (data set, method, seed) that the cache lacks is embedded, one after the other in this
process; then everything in the cache is scored and written to ``results/scpoli.json`` and into the
README. The scPoli of its authors runs in an environment and a process of its own, if there is one.
With seed ``s`` the labels of one batch, the ``s``-th of the labelled ones, are asked for, and no
method sees them. Needs ``scib-metrics`` and ``harmonypy``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Final

from _runs import THREAD_VARIABLES, one_thread

os.environ |= dict.fromkeys(THREAD_VARIABLES, "1")

import anndata
import numpy as np
import pandas as pd
import scib_metrics
import torch
from _datasets import UNLABELLED, Dataset
from _embeddings import COARSE, GIVEN, LEVELS, METHODS
from _markdown import Report, save, table
from _methods import HERE
from _summary import means_table, number, over_seeds
from integration import BATCH, SETS
from methods._shared import log_counts, variable_genes
from quality import machine
from scib_metrics.nearest_neighbors import NeighborsResults
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

MYELOID, T_CELL = "myeloid", "T"
COARSE_OF: Final = {
    "pbmc_3chemistries_1200_hvg": {
        "T_CD4": T_CELL,
        "T_CD8": T_CELL,
        "Mono_CD14": MYELOID,
        "Mono_CD16": MYELOID,
        "DC": MYELOID,
    },
    "kang_pbmc_labelled_1267genes": {
        "CD4 T cells": T_CELL,
        "CD8 T cells": T_CELL,
        "CD14+ Monocytes": MYELOID,
        "FCGR3A+ Monocytes": MYELOID,
    },
    "pbmc_multibatch": {"CD4 T": T_CELL, "CD8 T": T_CELL, "Mono": MYELOID, "DC": MYELOID},
}
"""Coarse label of the types that share one; others keep their own."""
AUTHORS: Final = "scpoli-authors"
N_NEIGHBORS: Final = 15
INTEGRATION: Final = {
    "ilisi": "iLISI",
    "batch_silhouette": "batch silhouette",
    "graph_connectivity": "graph connectivity",
    "clisi": "cLISI",
    "nmi": "NMI",
    "ari": "ARI",
    "cpu_seconds": "CPU s",
}
TRANSFER: Final = {
    "knn_f1": "macro F1, 15 neighbours",
    "predicted_f1": "macro F1, `predict_labels`",
    "unknown": "called unknown",
}


def main() -> int:
    """Embed what is missing, score what is there, write results and tables."""
    args = command_line().parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in ("lightning.pytorch", "harmonypy"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    datasets = [SETS[name] for name in args.datasets if SETS[name].path(args.data).exists()]
    for seed in args.seeds:
        for dataset in datasets:
            for method in args.methods:
                embed(dataset, method, seed, args)
    records = [found for dataset in datasets for found in records_of(dataset, args)]
    rows = over_seeds(pd.DataFrame(records), (*INTEGRATION, *TRANSFER))
    results = {"machine": machine(), "summary": rows, "runs": records}
    save(args, "scpoli", results, report(results))
    return 0


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    names = [*METHODS, AUTHORS]
    parser.add_argument("--methods", nargs="*", choices=names, default=names)
    parser.add_argument("--datasets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scpoli.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".peers" / "scpoli")
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".peers")
    parser.add_argument("--again", action="store_true", help="embed also what the cache holds")
    return parser


def cells_of(dataset: Dataset, seed: int, folder: Path) -> tuple[anndata.AnnData, str]:
    """Cells, whose labels are given but in one batch, and that batch."""
    adata, labels = dataset.read(folder)
    adata.obs[BATCH] = adata.obs[BATCH].astype(str)
    batches = sorted(adata.obs[BATCH][labels.notna()].unique())
    asked = batches[seed % len(batches)]
    given = labels.astype(object).where(adata.obs[BATCH] != asked, None)
    adata.obs[GIVEN] = given.where(given.notna(), UNLABELLED).astype(str)
    if dataset.name in COARSE_OF:
        coarse = labels.astype(object).replace(COARSE_OF[dataset.name])
        adata.obs[COARSE] = coarse.where(labels.notna(), UNLABELLED).astype(str)
    return adata, asked


def embed(dataset: Dataset, method: str, seed: int, args: argparse.Namespace) -> None:
    """See that the result of a run is in the cache."""
    file = args.cache / f"{dataset.name}__{method}__{seed}.npz"
    if (file.exists() and not args.again) or (method == LEVELS and dataset.name not in COARSE_OF):
        return
    adata, asked = cells_of(dataset, seed, args.data)
    if method == AUTHORS:
        by_authors(adata, asked, seed, file, args.peers)
        return
    started = time.process_time()
    found = METHODS[method](adata, seed)
    seconds = time.process_time() - started
    z = np.empty(0) if found.z is None else found.z.astype(np.float32)
    predicted = found.predicted.astype(str)
    np.savez(file, z=z, predicted=predicted, unknown=found.unknown, cpu_seconds=seconds)
    print(f"done  {file.stem} {seconds:.0f} s", flush=True)


def by_authors(adata: anndata.AnnData, asked: str, seed: int, out: Path, peers: Path) -> None:
    """Let the authors' package map the batch whose labels are asked for onto the others."""
    python = peers / "scarches" / "bin" / "python"
    if not python.exists():
        print(f"skip  {out.stem}: no environment of scArches", flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        cells = adata[:, variable_genes(log_counts(adata))].copy()
        cells.obs = cells.obs[[BATCH, GIVEN]]
        cells.write_h5ad(Path(folder) / "cells.h5ad")
        script = HERE / "peers" / "run_scpoli.py"
        command = [python, script, Path(folder) / "cells.h5ad", asked, seed, out]
        with out.with_suffix(".log").open("w") as log:
            done = subprocess.run(
                list(map(str, command)), stdout=log, stderr=log, env=one_thread(), check=False
            )
    print(f"{'FAIL' if done.returncode else 'done'}  {out.stem}", flush=True)


def records_of(dataset: Dataset, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Scores of the runs on one data set that the cache holds."""
    records = []
    for seed in args.seeds:
        adata, asked = cells_of(dataset, seed, args.data)
        labels = dataset.read(args.data)[1]
        for method in (*METHODS, AUTHORS):
            file = args.cache / f"{dataset.name}__{method}__{seed}.npz"
            if file.exists():
                about = {"dataset": dataset.name, "method": method, "seed": seed, "asked": asked}
                records.append(about | scored(file, adata, labels, asked))
    return records


def scored(file: Path, adata: anndata.AnnData, labels: pd.Series, asked: str) -> dict[str, float]:
    """Scores of one run, which stay in the cache as long as the run does."""
    kept = file.with_suffix(".json")
    if kept.exists() and kept.stat().st_mtime > file.stat().st_mtime:
        return json.loads(kept.read_text())
    found = np.load(file)
    scores = transfer_scores(found, adata, labels, asked)
    if found["z"].size:
        scores |= integration_scores(found["z"], adata, labels)
    scores["cpu_seconds"] = float(found["cpu_seconds"])
    numbers = {name: round(float(value), 5) for name, value in scores.items()}
    kept.write_text(json.dumps(numbers) + "\n")
    print(f"score {file.stem}", flush=True)
    return numbers


def integration_scores(
    z: np.ndarray, adata: anndata.AnnData, labels: pd.Series
) -> dict[str, float]:
    """Mixing of batches and kept biology of the labelled cells, by scib-metrics."""
    known = labels.notna().to_numpy()
    kinds = pd.factorize(labels[known])[0]
    batches = pd.factorize(adata.obs[BATCH][known])[0]
    rows = z[known]
    distances, indices = NearestNeighbors(n_neighbors=90).fit(rows).kneighbors(rows)
    near = NeighborsResults(indices=indices, distances=distances)
    clusters = scib_metrics.nmi_ari_cluster_labels_kmeans(rows, kinds)
    return {
        "ilisi": scib_metrics.ilisi_knn(near, batches),
        "batch_silhouette": scib_metrics.silhouette_batch(rows, kinds, batches),
        "graph_connectivity": scib_metrics.graph_connectivity(
            near.subset_neighbors(n=N_NEIGHBORS), kinds
        ),
        "clisi": scib_metrics.clisi_knn(near, kinds),
        "nmi": clusters["nmi"],
        "ari": clusters["ari"],
    }


def transfer_scores(
    found: Any, adata: anndata.AnnData, labels: pd.Series, asked: str
) -> dict[str, float]:
    """Labels of the batch asked for, as far as the others have them, by all ways there are."""
    given = adata.obs[GIVEN].to_numpy()
    known = given != UNLABELLED
    query = (adata.obs[BATCH] == asked).to_numpy() & labels.isin(given[known]).to_numpy()
    truth, scores = labels[query].astype(str).to_numpy(), {}
    if found["z"].size:
        z = found["z"]
        fitted = KNeighborsClassifier(N_NEIGHBORS).fit(z[known], given[known])
        scores["knn_f1"] = macro_f1(truth, fitted.predict(z[query]))
    if found["predicted"].size:
        scores["predicted_f1"] = macro_f1(truth, found["predicted"][query])
    if found["unknown"].size:
        scores["unknown"] = found["unknown"][query].mean()
    return scores


def macro_f1(truth: np.ndarray, found: np.ndarray) -> float:
    """Mean F1 over the types that the cells have."""
    return f1_score(truth, found, labels=np.unique(truth), average="macro", zero_division=0)


def report(results: dict[str, Any]) -> Report:
    """Means over data sets, and two tables per data set."""
    rows, parts = results["summary"], []
    for name in dict.fromkeys(row["dataset"] for row in rows):
        of_set = [row for row in rows if row["dataset"] == name]
        parts += [f"## {name}", f"Labels {SETS[name].labels}."]
        parts.append(of_methods([row for row in of_set if "ilisi" in row], INTEGRATION))
        parts.append(of_methods(of_set, TRANSFER))
    means = INTEGRATION | TRANSFER
    del means["cpu_seconds"], means["unknown"]
    return Report(means_table(rows, means), "\n\n".join(parts))


def of_methods(rows: list[dict[str, Any]], shown: dict[str, str]) -> str:
    """Medians over seeds, a row per method."""
    lines = (
        [
            row["method"],
            str(len(row["seeds"])),
            *(number(row, key, ".0f" if key == "cpu_seconds" else ".3f") for key in shown),
        ]
        for row in rows
    )
    return table(["method", "seeds", *shown.values()], lines, n_text=2)


if __name__ == "__main__":
    raise SystemExit(main())
