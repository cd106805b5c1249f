"""Whether the metrics rank metacells at random last: one command to a table.

usage: python benchmarks/metrics_ranked.py --data DIR [--datasets ...] [--seeds 0 1 2]

Metacells of scmetaq, of k-means and at random, one per 50 cells, are judged by the metrics of which
it is not obvious. Labels are majority labels where points are metacells. Writes
``results/metrics_ranked.json`` and a table of means over seeds. What the results file has is not
run again without ``--again``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from _command_line import growing_command_line
from _datasets import DATASETS, n_metacells
from _in_process import Key, assign, with_missing
from _markdown import Report, save, table
from quality import machine

from scmetaq import metrics

DEFAULT_SETS: Final = ("pbmc_facs_sorted", "pbmc3k")
METHODS: Final = ("scmetaq", "kmeans-pca", "random")
SHOWN: Final = {
    "inner_fold": "lower",
    "inner_stdev": "lower",
    "euclidean_compactness": "lower",
    "euclidean_separation": "higher",
    "silhouette": "higher",
    "classifier: accuracy": "higher",
    "classifier: balanced accuracy": "higher",
    "modules: density in metacells": "higher",
    "modules: density in cells": "-",
    "modules: preservation": "no quality",
    "cLISI of means of metacells": "no quality",
    "density: SD / mean": "neither",
    "counts_cv": "as you need",
}
N_NEAR: Final = 15


def main() -> None:
    """Do what is missing, then write results and table."""
    out = "metrics_ranked.json"
    args = growing_command_line(__doc__, DATASETS, out=out, default=DEFAULT_SETS).parse_args()
    names = ("dataset", "method", "seed")
    for records in with_missing(args.out, tasks(args), names=names, again=args.again):
        results = {"machine": machine(), "runs": records}
        if records:
            save(args, "metrics_ranked", results, report(results))


def tasks(args: argparse.Namespace) -> Iterator[tuple[Key, Callable[[], dict[str, Any]]]]:
    """Every run, and how to do it."""
    for name in args.datasets:
        adata, labels = DATASETS[name].read(args.data)
        for method in METHODS:
            for seed in args.seeds:
                of = (adata, labels, method, seed)
                yield (name, method, seed), lambda of=of: run(*of)


def run(adata: anndata.AnnData, labels: pd.Series, method: str, seed: int) -> dict[str, Any]:
    """The numbers of one assignment."""
    found = assign(method, adata, n_metacells(adata.n_obs), seed)
    codes = pd.factorize(pd.Series(found))[0]
    judged = metrics.evaluate(adata, codes, labels, use_rep="pca")
    mean = judged.groupby("metric")["value"].mean()
    record = {name: mean[name] for name in SHOWN if name in mean}
    counts, space = adata.X.tocsr(), principal_components(adata)
    tests = [metrics.classifier_test(counts, codes, labels, seed=of) for of in range(2)]
    record["classifier: accuracy"], record["classifier: balanced accuracy"] = np.mean(tests, axis=0)
    modules = metrics.module_preservation(counts, codes).mean()
    record["modules: density in metacells"] = modules["metacells"]
    record["modules: density in cells"] = modules["cells"]
    record["modules: preservation"] = modules["preservation"]
    means = pd.DataFrame(space).groupby(codes).mean().to_numpy()
    majority = pd.Series(labels.to_numpy()).groupby(codes).agg(lambda of: of.mode()[0])
    clisi = 1 - metrics.lisi(means, majority.to_numpy(), n_neighbors=N_NEAR)
    record["cLISI of means of metacells"] = clisi
    density = metrics.density(space, codes)
    record["density: SD / mean"] = density.std() / density.mean()
    return {name: round(float(value), 4) for name, value in record.items()}


def principal_components(adata: anndata.AnnData) -> np.ndarray:
    """Of log counts of the 3,000 most variable genes, as ``evaluate`` has them."""
    cells = anndata.AnnData(adata.X.copy())
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    sc.pp.highly_variable_genes(cells, n_top_genes=min(3000, cells.n_vars))
    return sc.pp.pca(cells.X[:, cells.var["highly_variable"].to_numpy()], n_comps=50)


def report(results: dict[str, Any]) -> Report:
    """A row per metric, a column per data set and method."""
    mean = pd.DataFrame(results["runs"]).groupby(["dataset", "method"], sort=False)[[*SHOWN]].mean()
    heading = ["metric", "better", *(f"{name}: {method}" for name, method in mean.index)]
    rows = [
        [name.replace("_", " "), better, *(f"{value:.3g}" for value in mean[name])]
        for name, better in SHOWN.items()
    ]
    return Report(table(heading, rows, n_text=2))


if __name__ == "__main__":
    main()
