"""How well scores of the model detect artefacts among real cells: one command to a table.

usage: python benchmarks/outliers.py --data DIR [--datasets ...] [--seeds 0 1 2]

To the cells of a set are added, one per hundred of each kind: doublets, the counts of two cells of
unlike types together, thinned to a depth between those of the two; damaged cells, of whose counts a
third is dealt out to any gene; and droplets without a cell, a quarter of the median depth drawn
from the sum of all cells. The model is trained on all of it. Writes ``results/outliers.json`` and a
table of AUROCs, each kind against the real cells: of high outlier scores, of low margins, and of
what needs no model, many counts and many genes found. What the results file has is not run again
without ``--again``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import scvi
from _command_line import growing_command_line
from _datasets import DATASETS, n_metacells
from _in_process import Key, with_missing
from _markdown import Report, save, table
from quality import machine
from sklearn.metrics import roc_auc_score

from scmetaq import MetaQModel

DEFAULT_SETS: Final = ("sc_mixology_5batch", "pbmc_facs_sorted", "pbmc3k")
KINDS: Final = ("doublet", "damaged cell", "empty droplet")
SHOWN: Final = ("score", "low margin", "counts", "genes", "metacells")
SHARE: Final = 0.01


def main() -> None:
    """Do what is missing, then write results and table."""
    args = command_line().parse_args()
    names = ("dataset", "seed")
    for records in with_missing(args.out, tasks(args), names=names, again=args.again):
        results = {"machine": machine(), "share": SHARE, "runs": records}
        if records:
            save(args, "outliers", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    return growing_command_line(__doc__, DATASETS, out="outliers.json", default=DEFAULT_SETS)


def tasks(args: argparse.Namespace) -> Iterator[tuple[Key, Callable[[], dict[str, Any]]]]:
    """Every run, and how to do it."""
    for name in args.datasets:
        adata, labels = DATASETS[name].read(args.data)
        for seed in args.seeds:
            yield (name, seed), lambda seed=seed, of=(adata, labels): run(*of, seed)


def run(adata: anndata.AnnData, labels: pd.Series, seed: int) -> dict[str, Any]:
    """AUROC of each score for each kind, and in how many metacells its cells are."""
    cells = with_artefacts(sp.csr_matrix(adata.X), labels.astype(object).to_numpy(), seed)
    scvi.settings.seed = seed
    MetaQModel.setup_anndata(cells)
    model = MetaQModel(cells, n_metacells(cells.n_obs))
    model.train(accelerator="cpu", logger=False, enable_progress_bar=False)
    found = model.get_assignments()
    by = {
        "score": model.get_outlier_scores().to_numpy(),
        "low margin": -found["margin"].to_numpy(),
        "counts": np.asarray(cells.X.sum(1)).ravel(),
        "genes": np.diff(cells.X.indptr),
    }
    kind = cells.obs["kind"].to_numpy()
    record: dict[str, Any] = {"n_cells": cells.n_obs}
    for name in KINDS:
        compared = np.isin(kind, ["cell", name])
        is_one = kind[compared] == name
        for what, values in by.items():
            auroc = roc_auc_score(is_one, values[compared])
            record[f"{name}: {what}"] = round(float(auroc), 4)
        record[f"{name}: metacells"] = found["metacell"][kind == name].nunique()
    record["n_of_a_kind"] = int((kind == KINDS[0]).sum())
    return record


def with_artefacts(counts: sp.csr_matrix, labels: np.ndarray, seed: int) -> anndata.AnnData:
    """The cells, and as many of each kind of artefact as ``SHARE`` says; ``obs["kind"]``."""
    rng = np.random.default_rng(seed)
    n_cells, n_genes = counts.shape
    n = round(SHARE * n_cells)
    known = np.flatnonzero(pd.notna(labels))
    left = rng.choice(known, n)
    right = np.array([rng.choice(known[labels[known] != labels[i]]) for i in left])
    depth = np.asarray(counts.sum(1)).ravel().astype(int)
    total = np.asarray(counts.sum(0)).ravel().astype(float)
    both = counts[left] + counts[right]
    depths = (depth[left] + depth[right]) // 2
    doublets = [thinned(row, n_counts, rng) for row, n_counts in zip(both, depths, strict=True)]
    hit = rng.choice(n_cells, n)
    any_gene = np.full(n_genes, 1 / n_genes)
    damaged = [
        thinned(counts[[i]], depth[i] - depth[i] // 3, rng)
        + rng.multinomial(depth[i] // 3, any_gene)
        for i in hit
    ]
    empty = [rng.multinomial(np.median(depth) // 4, total / total.sum()) for _ in range(n)]
    artefacts = sp.csr_matrix(np.array([*doublets, *damaged, *empty]))
    X = sp.vstack([counts, artefacts], format="csr").astype(np.float32)
    kind = ["cell"] * n_cells + [name for name in KINDS for _ in range(n)]
    obs = pd.DataFrame({"kind": kind}, index=[f"cell{i}" for i in range(len(kind))])
    return anndata.AnnData(X, obs=obs)


def thinned(counts: sp.csr_matrix, depth: int, rng: np.random.Generator) -> np.ndarray:
    """As many of the counts of a cell, drawn without replacement, ``(n_genes,)``."""
    row = np.asarray(counts.toarray()).ravel().astype(np.int64)
    return rng.multivariate_hypergeometric(row, int(depth), method="marginals")


def report(results: dict[str, Any]) -> Report:
    """Medians over seeds, a row per data set and kind of artefact."""
    lines = []
    for name, of in pd.DataFrame(results["runs"]).groupby("dataset", sort=False):
        for kind in KINDS:
            median = of[[f"{kind}: {score}" for score in SHOWN]].median()
            *aurocs, n_own = median
            scores = [*(f"{auroc:.2f}" for auroc in aurocs), f"{n_own:.0f}"]
            lines.append([str(name), kind, str(len(of)), str(of["n_of_a_kind"].iloc[0]), *scores])
    heading = ["data set", "artefact", "seeds", "cells", "outlier score", "low margin"]
    return Report(table([*heading, "counts", "genes", "metacells"], lines, n_text=2))


if __name__ == "__main__":
    main()
