"""SEACells as in its RNA tutorial: kernel on 50 principal components, hard assignment.

usage: python run_seacells.py INPUT.h5ad N_METACELLS SEED OUT.npy [--n-hvg 1500]
"""

from __future__ import annotations

import argparse
import sys

import _runner
import anndata
import numpy as np
import scanpy as sc
import SEACells


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Archetype with the largest weight, per cell."""
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=min(args.n_hvg, adata.n_vars))
    sc.pp.pca(adata, n_comps=50, mask_var="highly_variable")
    model = SEACells.core.SEACells(
        adata,
        build_kernel_on="X_pca",
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


if __name__ == "__main__":
    parser = _runner.command_line(__doc__)
    parser.add_argument("--n-hvg", type=int, default=1500, help="variable genes behind the PCA")
    _runner.run("seacells", "SEACells", assign, parser.parse_args())
