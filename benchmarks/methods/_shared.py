"""What the runners of this folder share: the peers' command line and clock, and gene selection."""

from __future__ import annotations

import sys
from pathlib import Path

import anndata
import numpy as np
import scanpy as sc
import scipy.sparse as sp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

from _runner import EPOCHS, Clock, command_line, run

__all__ = [
    "EPOCHS",
    "Clock",
    "N_VARIABLE_GENES",
    "command_line",
    "log_counts",
    "run",
    "variable_genes",
]

N_VARIABLE_GENES = 3000


def log_counts(adata: anndata.AnnData) -> sp.csr_matrix:
    """log1p counts per 10k, N x G."""
    X = sp.csr_matrix(adata.X, dtype=np.float32, copy=True)
    per_10k = np.asarray(X.sum(axis=1)).ravel() / 1e4  # N
    X.data = np.log1p(X.data / np.repeat(per_10k, np.diff(X.indptr)))
    return X


def variable_genes(X: sp.csr_matrix) -> np.ndarray:
    """Mask of the most variable genes of log counts; every gene where there are no more."""
    if X.shape[1] <= N_VARIABLE_GENES:
        return np.ones(X.shape[1], dtype=bool)
    cells = anndata.AnnData(X, uns={"log1p": {}})
    genes = sc.pp.highly_variable_genes(cells, n_top_genes=N_VARIABLE_GENES, inplace=False)
    return genes["highly_variable"].to_numpy()
