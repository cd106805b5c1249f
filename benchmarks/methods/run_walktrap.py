"""The algorithm of SuperCell, with its defaults: communities of random walks between near cells.

usage: python run_walktrap.py INPUT.h5ad N_METACELLS SEED OUT.npy

Ten principal components of z-scored log counts of the 1,000 most variable genes, the graph of 5
neighbours, and igraph's walktrap, cut at the number of metacells. Nothing in it is random.
SuperCell itself is an R package (Bilous et al., BMC Bioinformatics 2022).
"""

from __future__ import annotations

import argparse

import _shared
import anndata
import numpy as np
from run_kmeans import z_scores
from sklearn.decomposition import PCA

from scmetaq.metrics._compare import walktrap

N_GENES = 1000


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Community of each cell."""
    X = _shared.log_counts(adata)
    variance = np.asarray(X.power(2).mean(0)).ravel() - np.asarray(X.mean(0)).ravel() ** 2
    chosen = np.sort(np.argsort(-variance, kind="stable")[:N_GENES])
    scores = PCA(10, random_state=args.seed).fit_transform(z_scores(X[:, chosen].toarray()))
    return walktrap(scores, args.n_metacells)


if __name__ == "__main__":
    _shared.run("walktrap", "igraph", assign, _shared.command_line(__doc__).parse_args())
