"""Cells in two dimensions, to be drawn."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from scmetaq import _keys

MAX_CELLS = 50_000
"""Cells drawn at most: more would only hide each other."""
UMAP = "X_umap"
_N_GENES = 2_000
_FEW = 20
"""Cells below which neighbours mean little: drawn by their principal components."""


class Layout(NamedTuple):
    """Cells to draw, with an embedding, and where that comes from."""

    cells: AnnData
    basis: str
    origin: str


def lay_out(
    adata: AnnData, assignment: pd.Series, *, layer: str | None = None, seed: int = 0
) -> Layout:
    """Find two dimensions for the cells, which are not changed.

    An embedding that the cells bring along is taken; else UMAP is computed, by scanpy on principal
    components of log-normalised counts: independent of the method that made the metacells.

    Parameters
    ----------
    adata
        Cells with raw counts.
    assignment
        Metacell of each cell, in the order of the cells.
    layer
        Layer with the raw counts; None: ``X``.
    seed
        Seed of the choice of cells and of UMAP.
    """
    chosen = _choose(adata.n_obs, seed)
    obs = pd.DataFrame({_keys.METACELL: assignment.to_numpy()[chosen]})
    obs.index = adata.obs_names[chosen]
    if UMAP in adata.obsm and np.isfinite(np.asarray(adata.obsm[UMAP])).all():
        position: np.ndarray = np.asarray(adata.obsm[UMAP])[chosen, :2]
        return Layout(_with(obs, UMAP, position), UMAP, "the UMAP stored in the input")
    counts: Any = adata.X if layer is None else adata.layers[layer]
    basis, position, origin = _computed(counts[chosen], seed)
    return Layout(_with(obs, basis, position), basis, origin)


def _choose(n_cells: int, seed: int) -> np.ndarray:
    if n_cells <= MAX_CELLS:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, MAX_CELLS, replace=False))


def _with(obs: pd.DataFrame, basis: str, position: np.ndarray) -> AnnData:
    cells = AnnData(sp.csr_matrix((len(obs), 1), dtype=np.float32), obs=obs)
    cells.obsm[basis] = position
    return cells


def _computed(counts: Any, seed: int) -> tuple[str, np.ndarray, str]:
    """Principal components of log1p counts per 10k, and UMAP of them if there are enough cells."""
    cells = AnnData(_log_normalised(counts), uns={"log1p": {}})
    if cells.n_vars > _N_GENES:
        sc.pp.highly_variable_genes(cells, n_top_genes=_N_GENES)
    n_comps = min(50, cells.n_obs - 1, cells.n_vars - 1)
    normalised = "log-normalised counts"
    if n_comps < 2:
        return "X_pca", _two_columns(cells.X), normalised
    sc.pp.pca(cells, n_comps=n_comps, random_state=seed)
    position: np.ndarray = np.asarray(cells.obsm["X_pca"])[:, :2]
    if cells.n_obs < _FEW:
        return "X_pca", position, f"principal components of {normalised}"
    sc.pp.neighbors(cells, random_state=seed)
    sc.tl.umap(cells, random_state=seed)
    position = np.asarray(cells.obsm[UMAP])
    origin = f"UMAP of {n_comps} principal components of {normalised}, blind to the metacells"
    return UMAP, position, origin


def _log_normalised(counts: Any) -> sp.csr_matrix:
    X = sp.csr_matrix(counts, dtype=np.float32, copy=True)
    # the numbers of scanpy's normalize_total without the seconds it takes to compile
    per_10k = np.asarray(X.sum(axis=1)).ravel() / 1e4  # N
    X.data = np.log1p(X.data / np.repeat(per_10k, np.diff(X.indptr)))
    return X


def _two_columns(X: Any) -> np.ndarray:
    dense = np.zeros((X.shape[0], 2))
    dense[:, : min(2, X.shape[1])] = X[:, :2].toarray()
    return dense
