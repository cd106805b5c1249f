"""Cells in two dimensions, to be drawn."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq.metrics._counts import log_normalise

MAX_CELLS = 50_000
"""Cells drawn at most: more would only hide each other."""
UMAP = "X_umap"
_SPACE = "X_space"
_N_GENES = 2_000
_FEW = 20
"""Cells below which neighbours mean little: drawn by their principal components."""


class Layout(NamedTuple):
    """Cells to draw, with an embedding, and where that comes from."""

    cells: AnnData
    basis: str
    origin: str


def lay_out(
    data: AnnData | MuData,
    assignment: pd.Series,
    *,
    layer: str | None = None,
    embedding: np.ndarray | None = None,
    modalities: Sequence[str] = (),
    seed: int = 0,
) -> Layout:
    """Find two dimensions for the cells, which are not changed.

    An embedding that the cells bring along is taken; else UMAP is computed, by scanpy on the
    model's latent if that is given, or else on principal components of log-normalised counts:
    independent of the method that made the metacells.

    Parameters
    ----------
    data
        Cells with raw counts.
    assignment
        Metacell of each cell, in the order of the cells.
    layer
        Layer with the raw counts; None: ``X``. Of a MuData that of each modality that has it.
    embedding
        Latent of the cells, shape ``(n_cells, n_latent)``.
    modalities
        Those of a MuData that matter.
    seed
        Seed of the choice of cells and of UMAP.
    """
    chosen = _choose(data.n_obs, seed)
    obs = pd.DataFrame({_keys.METACELL: assignment.to_numpy()[chosen]})
    obs.index = data.obs_names[chosen]
    stored = _stored(data)
    if stored is not None:
        return Layout(_with(obs, UMAP, stored[chosen]), UMAP, "the UMAP stored in the input")
    if embedding is not None:
        space, words = np.asarray(embedding)[chosen], "the model's latent"
        basis, position, origin = _two_of(space, words, f"{words}: its own view of the cells", seed)
    elif isinstance(data, MuData):
        basis, position, origin = _of_modalities(data, chosen, list(modalities), layer, seed)
    else:
        counts: Any = data.X if layer is None else data.layers[layer]
        basis, position, origin = _of_counts(counts[chosen], seed)
    return Layout(_with(obs, basis, position), basis, origin)


def _stored(data: AnnData | MuData) -> np.ndarray | None:
    """UMAP that the cells bring along, N x 2, if it can be drawn."""
    stored: Any = data.obsm.get(UMAP)
    if stored is None or sp.issparse(stored) or np.ndim(stored) != 2 or stored.shape[1] < 2:
        return None
    position = np.asarray(stored)[:, :2]
    is_drawable = position.dtype.kind in "fiu" and np.isfinite(position).all()
    return position if is_drawable else None


def _choose(n_cells: int, seed: int) -> np.ndarray:
    if n_cells <= MAX_CELLS:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, MAX_CELLS, replace=False))


def _with(obs: pd.DataFrame, basis: str, position: np.ndarray) -> AnnData:
    cells = AnnData(sp.csr_matrix((len(obs), 1), dtype=np.float32), obs=obs)
    cells.obsm[basis] = position
    return cells


def _of_counts(counts: Any, seed: int) -> tuple[str, np.ndarray, str]:
    """Two dimensions of log1p counts per 10k."""
    components, words = _principal_components(counts, seed)
    origin = f"{components.shape[1]} {words}, blind to the metacells"
    return _two_of(components, words, origin, seed)


def _of_modalities(
    mdata: MuData, chosen: np.ndarray, modalities: list[str], layer: str | None, seed: int
) -> tuple[str, np.ndarray, str]:
    """Two dimensions of all modalities that all cells have; if there are none, of all."""
    whole = [name for name in modalities if mdata.mod[name].n_obs == mdata.n_obs] or modalities
    blocks = []
    for name in whole:
        part = mdata.mod[name]
        row = part.obs_names.get_indexer(mdata.obs_names[chosen])
        counts: Any = part.X if layer is None else part.layers.get(layer, part.X)
        components, words = _principal_components(counts[row[row >= 0]], seed)
        block = np.zeros((len(row), components.shape[1]))  # cells without it: at the mean
        scale = np.sqrt(components.var(0).sum()) or 1.0
        block[row >= 0] = (components - components.mean(0)) / scale
        blocks.append(block)
    words = f"{words} of {' and '.join(whole)}"
    origin = f"{words}{', which weigh the same' if len(whole) > 1 else ''}, blind to the metacells"
    return _two_of(np.hstack(blocks), words, origin, seed)


def _principal_components(counts: Any, seed: int) -> tuple[np.ndarray, str]:
    """Principal components of log1p counts per 10k, N x D, and what they are."""
    cells = AnnData(log_normalise(counts), uns={"log1p": {}})
    if cells.n_vars > _N_GENES:
        sc.pp.highly_variable_genes(cells, n_top_genes=_N_GENES)
    n_comps = min(50, cells.n_obs - 1, cells.n_vars - 1)
    normalised = "log-normalised counts"
    if n_comps < 2:
        return _two_columns(cells.X), normalised
    sc.pp.pca(cells, n_comps=n_comps, random_state=seed)
    return np.asarray(cells.obsm["X_pca"]), f"principal components of {normalised}"


def _two_of(space: np.ndarray, words: str, origin: str, seed: int) -> tuple[str, np.ndarray, str]:
    """UMAP of a space of many dimensions, or its first two if there are few cells."""
    if space.shape[1] <= 2 or len(space) < _FEW:
        return "X_pca", space[:, :2], words
    cells = AnnData(obs=pd.DataFrame(index=np.arange(len(space)).astype(str)))
    cells.obsm[_SPACE] = space
    sc.pp.neighbors(cells, use_rep=_SPACE, random_state=seed)
    sc.tl.umap(cells, random_state=seed)
    return UMAP, np.asarray(cells.obsm[UMAP]), f"UMAP of {origin}"


def _two_columns(X: Any) -> np.ndarray:
    dense = np.zeros((X.shape[0], 2))
    dense[:, : min(2, X.shape[1])] = X[:, :2].toarray()
    return dense
