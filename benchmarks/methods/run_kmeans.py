"""K-means on principal components of log counts: what a metacell method has to beat.

usage: python run_kmeans.py INPUT.h5ad N_METACELLS SEED OUT.npy [--scaled]

log1p counts per 10k of the 3,000 most variable genes, as they are or (``--scaled``) as z-scores
clipped at 10; 50 principal components; one k-means++ start.
"""

from __future__ import annotations

import argparse

import _shared
import anndata
import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Cluster of each cell."""
    X = _shared.log_counts(adata)
    X = X[:, _shared.variable_genes(X)].toarray()
    if args.scaled:
        X = z_scores(X)
    scores = PCA(50, svd_solver="arpack", random_state=args.seed).fit_transform(X)  # N x 50
    return KMeans(args.n_metacells, n_init=1, random_state=args.seed).fit_predict(scores)


def z_scores(X: np.ndarray, clip: float = 10.0) -> np.ndarray:
    """Genes at mean zero and variance one, clipped."""
    spread = X.std(axis=0, ddof=1)
    spread[spread == 0] = 1
    return np.clip((X - X.mean(axis=0)) / spread, -clip, clip)


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument("--scaled", action="store_true", help="z-scores, not log counts")
    args = parser.parse_args()
    name = "kmeans-pca-scaled" if args.scaled else "kmeans-pca"
    _shared.run(name, "scikit-learn", assign, args)
