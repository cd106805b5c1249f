"""A developmental order from metacells and from cells: one command from counts to a table.

usage: python benchmarks/trajectory.py --data DIR [--seeds 0 1 2]

Pancreatic cells of the mouse embryo go from ductal cells over Ngn3-low, Ngn3-high and Fev-high
(pre-endocrine) cells to four endocrine types. Metacells of each method, summed counts, go through
the usual steps of scanpy: diffusion pseudotime from the ductal end, PAGA of the types. Does the
pseudotime follow the stages, and has PAGA's tree the links that are known? The same of all cells,
and of as many single cells as there are metacells. Writes ``results/trajectory.json`` and the
README.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from _datasets import DATASETS
from _in_process import ASSIGN, assign
from _markdown import Report, save, table
from _methods import HERE
from _summary import number, over_seeds
from quality import machine
from scipy import sparse
from scipy.stats import spearmanr

DATASET: Final = "mouse_endocrinogenesis_2000genes"
CELLS_PER_METACELL: Final = 25
FATES: Final = ("Alpha", "Beta", "Delta", "Epsilon")
STAGES: Final = {
    "Ductal": 0,
    "Ngn3 low EP": 1,
    "Ngn3 high EP": 2,
    "Pre-endocrine": 3,
    **dict.fromkeys(FATES, 4),
}
EARLY: Final = [name for name, stage in STAGES.items() if stage < 4]
LINKS: Final = {
    frozenset(link)
    for link in (*zip(EARLY[:-1], EARLY[1:], strict=True), *((EARLY[-1], fate) for fate in FATES))
}
"""Known links of the types."""
ROOT: Final = "Ductal"
N_COMPONENTS: Final = 10
SHOWN: Final = {
    "n_nodes": "observations",
    "n_types": "types",
    "order": "Spearman of pseudotime and stage, cells",
    "links": "known links in PAGA's tree, of 7",
    "purity": "purity",
    "accuracy": "accuracy",
}


def main() -> None:
    """Make the orders, score them, write results and the table."""
    args = command_line().parse_args()
    warnings.simplefilter("ignore")
    adata, labels = DATASETS[DATASET].read(args.data)
    kinds = labels.astype(str).to_numpy()
    n_metacells = round(adata.n_obs / CELLS_PER_METACELL)
    alone = np.arange(adata.n_obs)
    runs = [{"method": "all cells", "seed": 0, **scores(adata, kinds, alone)}]
    for seed in args.seeds:
        few = np.full(adata.n_obs, -1)
        draw = np.random.default_rng(seed).choice(adata.n_obs, n_metacells, replace=False)
        few[draw] = np.arange(n_metacells)
        assignments = {method: assign(method, adata, n_metacells, seed) for method in ASSIGN}
        for method, found in {**assignments, "as many cells": few}.items():
            runs.append({"method": method, "seed": seed, **scores(adata, kinds, found)})
            print(runs[-1], flush=True)
    rows = over_seeds(pd.DataFrame(runs).assign(dataset=DATASET), SHOWN)
    results = {"machine": machine(), "dataset": DATASET, "summary": rows, "runs": runs}
    save(args, "trajectory", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "trajectory.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    return parser


def scores(adata: anndata.AnnData, kinds: np.ndarray, assignment: np.ndarray) -> dict[str, float]:
    """How well the order of metacells is that of development; -1: a cell of no metacell."""
    known = assignment >= 0
    nodes, codes = np.unique(assignment[known], return_inverse=True)
    counted = pd.crosstab(codes, kinds[known])  # K x types
    members = sparse.csr_matrix(
        (np.ones(len(codes), np.float32), (codes, np.arange(len(codes)))),
        shape=(len(nodes), len(codes)),
    )
    metacells = anndata.AnnData(members @ adata.X[known])
    metacells.obs["type"] = pd.Categorical(counted.idxmax(axis=1).to_numpy())
    time = pseudotime(metacells)
    finite = np.isfinite(time[codes])
    stage = pd.Series(kinds[known]).map(STAGES).to_numpy()
    found = {
        "n_nodes": len(nodes),
        "n_types": metacells.obs["type"].nunique(),
        "order": spearmanr(time[codes][finite], stage[finite]).statistic,
        "links": len(tree(metacells) & LINKS),
        "purity": (counted.max(axis=1) / counted.sum(axis=1)).mean(),
        "accuracy": counted.max(axis=1).sum() / len(codes),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def pseudotime(metacells: anndata.AnnData) -> np.ndarray:
    """Diffusion pseudotime from the ductal observation that is farthest from all endocrine ones."""
    sc.pp.normalize_total(metacells, target_sum=1e4)
    sc.pp.log1p(metacells)
    sc.pp.pca(metacells, n_comps=30, random_state=0)
    sc.pp.neighbors(metacells, n_neighbors=15, random_state=0)
    sc.tl.diffmap(metacells, n_comps=N_COMPONENTS, random_state=0)
    space = metacells.obsm["X_diffmap"][:, 1:]
    end = space[metacells.obs["type"].isin(FATES).to_numpy()].mean(0)
    far = np.linalg.norm(space - end, axis=1)
    far[(metacells.obs["type"] != ROOT).to_numpy()] = -1
    metacells.uns["iroot"] = int(far.argmax())
    sc.tl.dpt(metacells, n_dcs=N_COMPONENTS)
    return metacells.obs["dpt_pseudotime"].to_numpy()


def tree(metacells: anndata.AnnData) -> set[frozenset[str]]:
    """Links of the spanning tree that PAGA keeps."""
    sc.tl.paga(metacells, groups="type")
    names = metacells.obs["type"].cat.categories
    kept = metacells.uns["paga"]["connectivities_tree"].tocoo()
    return {frozenset((names[i], names[j])) for i, j in zip(kept.row, kept.col, strict=True)}


def report(results: dict[str, Any]) -> Report:
    """Medians over seeds."""
    whole = ("n_nodes", "n_types", "links")
    lines = (
        [
            row["method"],
            str(len(row["seeds"])),
            *(number(row, name, ",.0f" if name in whole else ".3f") for name in SHOWN),
        ]
        for row in results["summary"]
    )
    return Report(table(["method", "seeds", *SHOWN.values()], lines, n_text=2))


if __name__ == "__main__":
    main()
