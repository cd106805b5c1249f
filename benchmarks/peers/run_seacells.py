"""SEACells as in its RNA tutorial: kernel on 50 principal components, hard assignment.

Of two modalities the kernel is built on the principal components of both side by side, each scaled
to total variance one; those of peaks are components 2 to 50 of TF-IDF values, as in its tutorial
of chromatin.

usage: python run_seacells.py INPUT.h5ad N_METACELLS SEED OUT.npy [--n-hvg 1500] [--on MODALITY]
"""

from __future__ import annotations

import argparse
import sys

import _runner
import anndata
import numpy as np
import scanpy as sc
import SEACells
from sklearn.decomposition import TruncatedSVD


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Archetype with the largest weight, per cell."""
    parts = _runner.by_modality(adata).items()
    scores = [components(*part, args) for part in parts if args.on in (None, part[0])]
    if len(scores) > 1:
        scores = [values / np.sqrt(values.var(0).sum()) for values in scores]
    adata.obsm["X_joint"] = np.hstack(scores)
    model = SEACells.core.SEACells(
        adata,
        build_kernel_on="X_joint",
        n_SEACells=args.n_metacells,
        n_waypoint_eigs=10,
        convergence_epsilon=1e-5,
    )
    SEACells.build_graph.tqdm = iter  # its progress bar needs a notebook
    model.construct_kernel_matrix()
    model.initialize_archetypes()
    try:
        model.fit(min_iter=10, max_iter=50)
    except RuntimeWarning as unconverged:  # raised after the last iteration; the fit is complete
        print(unconverged, file=sys.stderr)
    return model.A_.argmax(axis=0)


def components(kind: str, adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Principal components of one modality, N x P."""
    if kind == "atac":
        return peak_components(adata, args.seed)
    if kind == "adt":
        log = np.log1p(adata.X.toarray())
        adata.X = log - log.mean(1, keepdims=True)
        return sc.pp.pca(adata.X, n_comps=min(50, adata.n_vars - 1))
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=min(args.n_hvg, adata.n_vars))
    sc.pp.pca(adata, n_comps=50, mask_var="highly_variable")
    return adata.obsm["X_pca"]


def peak_components(adata: anndata.AnnData, seed: int) -> np.ndarray:
    """Components 2 to 50 of log TF-IDF values of peaks, N x 49."""
    frequency = adata.X.multiply(1 / adata.X.sum(1)).tocsr()
    inverse = np.log1p(adata.n_obs / np.asarray(adata.X.sum(0)).ravel())
    weighted = frequency.multiply(inverse).tocsr()
    weighted.data = np.log1p(1e4 * weighted.data)
    return TruncatedSVD(50, random_state=seed).fit_transform(weighted)[:, 1:]


if __name__ == "__main__":
    parser = _runner.command_line(__doc__)
    parser.add_argument("--n-hvg", type=int, default=1500, help="variable genes behind the PCA")
    parser.add_argument("--on", choices=["rna", "adt", "atac"], help="this modality alone")
    _runner.run("seacells", "SEACells", assign, parser.parse_args())
