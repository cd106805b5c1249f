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
    X = _shared.log_counts(adata)
    X = X[:, _shared.variable_genes(X)].toarray()
    scores = PCA(50, svd_solver="arpack", random_state=args.seed).fit_transform(X)  # N x 50
    fitted = harmonypy.run_harmony(
        scores.astype(np.float64), adata.obs, [args.batch_key], random_state=args.seed
    )
    corrected = np.asarray(fitted.Z_corr)
    corrected = corrected if len(corrected) == adata.n_obs else corrected.T
    return KMeans(args.n_metacells, n_init=1, random_state=args.seed).fit_predict(corrected)


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument("--batch-key", default="batch")
    _shared.run("harmony-kmeans", "harmonypy", assign, parser.parse_args())
