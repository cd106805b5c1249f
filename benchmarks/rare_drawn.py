"""Do types of a thousandth of the cells keep a metacell where a thousandth is many cells.

usage: python benchmarks/rare_drawn.py --data DIR [--methods ...] [--datasets ...] [--seeds 0 1 2]

A type of .1 % is two to five cells of a labelled set at hand (``rare.py``), and twenty of the
20,000 that are drawn here with fresh multinomial noise. Each cell is drawn from the mean profile of
a real cell and the fourteen cells of its label that are most like it, with as many counts as the
real cell has. The mean matters: cells drawn from one real cell share its noise and are a group of
their own for any method. All methods are given the same cells.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from _command_line import growing_command_line
from _datasets import DATASETS
from _in_process import ASSIGN, Key, with_missing
from _markdown import save
from _methods import HERE
from quality import machine
from rare import NAMES, PEERS, TYPES, report, run
from sklearn.neighbors import NearestNeighbors

SHARES: Final = (0.002, 0.001, 0.0005)
N_CELLS: Final = 20_000
CELLS_PER_METACELL: Final = 50
N_ALIKE: Final = 15
"""Cells, the real one among them, whose mean is a profile."""
BLOCK: Final = 1_000


def main() -> None:
    """Run what is missing, then write results and table."""
    args = command_line().parse_args()
    for records in with_missing(args.out, tasks(args), names=NAMES, again=args.again):
        results = {"machine": machine(), "types": TYPES, "n_cells": N_CELLS, "runs": records}
        if records:
            save(args, "rare_drawn", results, report(results))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = growing_command_line(__doc__, TYPES, out="rare_drawn.json")
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".peers")
    methods = [*ASSIGN, *PEERS]
    parser.add_argument("--methods", nargs="*", choices=methods, default=methods)
    parser.add_argument("--shares", nargs="*", type=float, default=SHARES)
    return parser


def tasks(args: argparse.Namespace) -> Iterator[tuple[Key, Callable[[], dict[str, Any]]]]:
    """All runs that were asked for, seed by seed."""
    for seed in args.seeds:
        for name in args.datasets:
            source = Source(*DATASETS[name].read(args.data), TYPES[name])
            for share in args.shares:
                cells = functools.cache(functools.partial(source.draw, share, seed))
                for method in args.methods:
                    key = (name, method, share, CELLS_PER_METACELL, seed)
                    yield key, lambda key=key, of=cells: run(key, *of(), args.peers)


class Source:
    """Profiles of the labelled cells of a data set, of which others are drawn.

    Parameters
    ----------
    adata
        Counts.
    labels
        Of the cells; those without one are left out.
    rare
        The type that is made rare.
    """

    def __init__(self, adata: anndata.AnnData, labels: pd.Series, rare: str):
        known = labels.notna().to_numpy()
        self.labels = labels[known].astype(str).to_numpy()
        self.is_rare = self.labels == rare
        counts = sp.csr_matrix(adata.X, dtype=np.float64)[known]
        self.total = np.asarray(counts.sum(1)).ravel().astype(int)
        self.share_of_gene = sp.diags(1 / self.total) @ counts
        self.alike = alike(adata[known].copy(), self.labels)

    def draw(self, share: float, seed: int) -> tuple[anndata.AnnData, pd.Series]:
        """Cells, of which so small a share is of the rare type, and their labels."""
        rng = np.random.default_rng([seed, round(1e6 * share)])
        n_rare = round(share * N_CELLS)
        drawn = np.concatenate(
            [
                rng.choice(np.flatnonzero(self.is_rare), n_rare),
                rng.choice(np.flatnonzero(~self.is_rare), N_CELLS - n_rare),
            ]
        )
        cells = rng.permutation(drawn)
        X = sp.vstack([self._counts(cells[i : i + BLOCK], rng) for i in range(0, N_CELLS, BLOCK)])
        names = pd.Index([f"cell{i}" for i in range(N_CELLS)])
        labels = pd.Series(self.labels[cells], index=names)
        return anndata.AnnData(X.tocsr(), obs=pd.DataFrame(index=names)), labels

    def _counts(self, cells: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
        """Counts drawn from the profiles of some cells."""
        profile = (self.alike[cells] @ self.share_of_gene).toarray()
        profile /= profile.sum(1, keepdims=True)
        return sp.csr_matrix(rng.multinomial(self.total[cells], profile), dtype=np.float32)


def alike(adata: anndata.AnnData, labels: np.ndarray) -> sp.csr_matrix:
    """Weights of the cells that make up each cell's profile, ``(n_cells, n_cells)``."""
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=30, random_state=0)
    weights = sp.lil_matrix((adata.n_obs, adata.n_obs))
    for label in np.unique(labels):
        cells = np.flatnonzero(labels == label)
        n = min(N_ALIKE, len(cells))
        near = NearestNeighbors(n_neighbors=n).fit(adata.obsm["X_pca"][cells])
        found = cells[near.kneighbors(return_distance=False, X=adata.obsm["X_pca"][cells])]
        for cell, others in zip(cells, found, strict=True):
            weights[cell, others] = 1 / n
    return weights.tocsr()


if __name__ == "__main__":
    main()
