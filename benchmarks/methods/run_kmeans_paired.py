"""K-means on principal components of two modalities, or on their weighted nearest neighbours.

usage: python run_kmeans_paired.py INPUT.h5ad N_METACELLS SEED OUT.npy [--on concatenated]

Per modality 50 principal components (all but one of few proteins) of log1p counts per 10k of the
3,000 most variable genes; of proteins centred log ratios; of peaks components 2 to 50 of the
decomposition of TF-IDF values. ``concatenated``: each scaled to total variance one, times the root
of its weight, then one k-means++ start. ``wnn``: muon's weighted nearest neighbours of the two,
then k-means on 50 components of the graph's Laplacian.
"""

from __future__ import annotations

import argparse

import _shared
import anndata
import mudata
import muon as mu
import numpy as np
import scanpy as sc
from _paired import by_modality
from run_kmeans import z_scores
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.manifold import SpectralEmbedding

N_COMPONENTS = 50


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Cluster of each cell."""
    parts = by_modality(adata)
    scores = {kind: reduced(kind, parts[kind], args.seed, scaled=args.scaled) for kind in parts}
    other = next(kind for kind in scores if kind != "rna")
    if args.on == "wnn":
        space = neighbour_components(scores, args.seed)
    elif args.on == "concatenated":
        shares = [args.rna_weight, 1 - args.rna_weight]
        unit = [values / np.sqrt(values.var(0).sum()) for values in scores.values()]
        space = np.hstack([np.sqrt(w) * values for w, values in zip(shares, unit, strict=True)])
    else:
        space = scores["rna" if args.on == "rna" else other]
    return KMeans(args.n_metacells, n_init=1, random_state=args.seed).fit_predict(space)


def reduced(kind: str, adata: anndata.AnnData, seed: int, *, scaled: bool = False) -> np.ndarray:
    """Components of one modality, N x P, on request of z-scores of genes and proteins."""
    scale = z_scores if scaled else np.asarray
    if kind == "adt":
        log = np.log1p(adata.X.toarray())
        return principal(scale(log - log.mean(1, keepdims=True)), seed)
    if kind == "atac":
        mu.atac.pp.tfidf(adata, scale_factor=1e4)
        return TruncatedSVD(N_COMPONENTS, random_state=seed).fit_transform(adata.X)[:, 1:]
    X = _shared.log_counts(adata)
    return principal(scale(X[:, _shared.variable_genes(X)].toarray()), seed)


def principal(values: np.ndarray, seed: int) -> np.ndarray:
    """Principal components of dense values."""
    n = min(N_COMPONENTS, min(values.shape) - 1)
    return PCA(n, svd_solver="arpack", random_state=seed).fit_transform(values)


def neighbour_components(scores: dict[str, np.ndarray], seed: int) -> np.ndarray:
    """Laplacian components of the graph of weighted nearest neighbours."""
    parts = {kind: anndata.AnnData(obsm={"X_pca": values}) for kind, values in scores.items()}
    for part in parts.values():
        sc.pp.neighbors(part, use_rep="X_pca", random_state=seed)
    mdata = mudata.MuData(parts)
    mu.pp.neighbors(mdata, key_added="wnn", random_state=seed)
    graph = mdata.obsp["wnn_connectivities"]
    embedding = SpectralEmbedding(N_COMPONENTS, affinity="precomputed", random_state=seed)
    return embedding.fit_transform((graph + graph.T) / 2)


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument(
        "--on", choices=["concatenated", "rna", "other", "wnn"], default="concatenated"
    )
    parser.add_argument("--scaled", action="store_true", help="z-scores of genes and proteins")
    parser.add_argument("--rna-weight", type=float, default=0.5, help="share of RNA in distances")
    args = parser.parse_args()
    _shared.run(f"kmeans-{args.on}", "scikit-learn", assign, args)
