"""Metacells made in each group of cells by itself, by any of four methods.

usage: python run_grouped.py INPUT.h5ad N_METACELLS SEED OUT.npy --by published

Groups are of a cell type and a sample; each is given one metacell per ten of its cells, together
N_METACELLS.
"""

from __future__ import annotations

import argparse

import _shared
import anndata
import numpy as np
import pandas as pd
import scvi
from _pure import GROUPS, n_of_groups
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

import scmetaq


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Metacell of each cell."""
    numbers = n_of_groups(adata.obs)
    if sum(numbers.values()) != args.n_metacells:
        raise ValueError(f"groups ask for {sum(numbers.values())}, not {args.n_metacells}")
    scores = principal_components(adata, args.seed) if args.by == "kmeans" else None
    found, first = np.full(adata.n_obs, -1), 0
    groups = adata.obs.groupby(list(GROUPS), observed=True).indices
    for key, n in numbers.items():
        cells = groups[key]
        if n == 1:
            found[cells] = first
        elif scores is not None:
            found[cells] = first + KMeans(n, n_init=1, random_state=args.seed).fit_predict(
                scores[cells]
            )
        elif args.by == "random":
            order = np.random.default_rng(args.seed).permutation(len(cells))
            found[cells] = first + order % n
        else:
            found[cells] = first + trained(adata[cells], n, args)
        first += n
    return found


def principal_components(adata: anndata.AnnData, seed: int) -> np.ndarray:
    """50 components of log1p counts per 10k of the most variable genes."""
    X = _shared.log_counts(adata)
    X = X[:, _shared.variable_genes(X)].toarray()
    return PCA(50, svd_solver="arpack", random_state=seed).fit_transform(X)  # N x 50


def trained(cells: anndata.AnnData, n_metacells: int, args: argparse.Namespace) -> np.ndarray:
    """Metacells of a model of these cells alone, of the genes that they have."""
    scvi.settings.seed = args.seed
    cells = cells[:, np.asarray((cells.X > 0).sum(0)).ravel() > 0].copy()
    scmetaq.MetaQModel.setup_anndata(cells)
    model = scmetaq.MetaQModel(cells, n_metacells, recipe=args.by)
    model.train(accelerator="cpu", logger=False, enable_progress_bar=False)
    return pd.factorize(model.get_assignments()["metacell"], sort=True)[0]


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument("--by", choices=["default", "published", "kmeans", "random"], required=True)
    args = parser.parse_args()
    _shared.run(f"{args.by}-grouped", "scmetaq", assign, args)
