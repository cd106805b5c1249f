"""K-means on principal components that Harmony has corrected for batches.

usage: python run_harmony.py INPUT.h5ad N_METACELLS SEED OUT.npy [--batch-key batch]

As ``run_kmeans.py`` without scaling, with harmonypy's defaults in between.
"""

from __future__ import annotations

import argparse

import _shared
import anndata
import harmonypy
import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Cluster of each cell."""
    scores = corrected(components(adata, args.seed), adata, args.batch_key, args.seed)
    return KMeans(args.n_metacells, n_init=1, random_state=args.seed).fit_predict(scores)


def components(adata: anndata.AnnData, seed: int) -> np.ndarray:
    """Principal components of log counts, 50 at most, N x P."""
    X = _shared.log_counts(adata)
    X = X[:, _shared.variable_genes(X)].toarray()
    n = min(50, min(X.shape) - 1)
    return PCA(n, svd_solver="arpack", random_state=seed).fit_transform(X)


def corrected(scores: np.ndarray, adata: anndata.AnnData, key: str, seed: int) -> np.ndarray:
    """Scores without the effects of batches by Harmony."""
    found = harmonypy.run_harmony(scores.astype(float), adata.obs, [key], random_state=seed)
    z = np.asarray(found.Z_corr)
    return z if len(z) == adata.n_obs else z.T


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument("--batch-key", default="batch")
    _shared.run("harmony-kmeans", "harmonypy", assign, parser.parse_args())
