"""Pictures that live inside a page: cells in two dimensions, metacells, training."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from pynndescent import PyNNDescentTransformer

from scmetaq import _keys, pl
from scmetaq.data._containers import Rows
from scmetaq.metrics._evaluate import principal_components
from scmetaq.pl._style import svg_source

from ._tables import LabelSummary

MAX_CELLS = 50_000  # cells drawn at most: more would only hide each other
MAX_LABELS = 40  # labels drawn at most: the colours of more are not distinguishable
MIN_EPOCHS = 10  # epochs below which curves of training say too little to be drawn
UMAP = "X_umap"
_SPACE = "X_space"
_N_GENES = 2_000
_FEW = 20  # cells below which neighbours mean little: drawn by their principal components
_N_EPOCHS = 200  # of a UMAP, as many as umap-learn takes for many cells
_MOST_EXACT = 8_192  # cells up to which neighbours are exact, as in scanpy


class _Neighbors(PyNNDescentTransformer):
    """Approximate neighbours as a sparse matrix, which scanpy takes, and not a sparse array."""

    def fit_transform(self, X: Any, y: Any = None, **options: Any) -> sp.csr_matrix:
        return sp.csr_matrix(super().fit_transform(X, y, **options))


class Drawn(NamedTuple):
    """Cells with their metacells over them: a picture, and what it shows."""

    source: str
    color: str | None  # labels by which they are coloured
    places: pd.DataFrame  # middle of each metacell, in shares of width and height from the top left


class Layout(NamedTuple):
    """Cells to draw, the name of their embedding, and its origin in words."""

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
) -> Layout:
    """Find two dimensions for the cells, or for a sample of many.

    The UMAP of the cells if they have one; else a UMAP of the model's latent (``embedding``) or,
    without one, of principal components of log-normalised counts, independent of the metacells'
    method.
    """
    chosen = np.arange(data.n_obs)
    if data.n_obs > MAX_CELLS:
        rng = np.random.default_rng(0)
        chosen = np.sort(rng.choice(data.n_obs, MAX_CELLS, replace=False))
    stored = _stored(data)
    if stored is not None:
        basis, position, origin = UMAP, stored[chosen], "the UMAP stored in the input"
    elif embedding is not None:
        space, remark = np.asarray(embedding)[chosen], "its own view of the cells"
        basis, position, origin = _two_of(space, "the model's latent", remark)
    else:
        space, words = _space(data, chosen, modalities, layer)
        weights = "of the same weight, " if " and " in words else ""
        basis, position, origin = _two_of(space, words, f"{weights}independent of the metacells")
    obs = pd.DataFrame({_keys.METACELL: assignment.to_numpy()[chosen]}, data.obs_names[chosen])
    cells = AnnData(sp.csr_matrix((len(obs), 1), dtype=np.float32), obs=obs)
    cells.obsm[basis] = position
    return Layout(cells, basis, origin)


def _stored(data: AnnData | MuData) -> np.ndarray | None:
    """UMAP that the cells bring along, N x 2, if it can be drawn."""
    stored: Any = data.obsm.get(UMAP)
    if stored is None or sp.issparse(stored) or np.ndim(stored) != 2 or stored.shape[1] < 2:
        return None
    position = np.asarray(stored)[:, :2]
    return position if position.dtype.kind in "fiu" and np.isfinite(position).all() else None


def _space(
    data: AnnData | MuData, chosen: np.ndarray, modalities: Sequence[str], layer: str | None
) -> tuple[np.ndarray, str]:
    """Principal components of the modalities that all cells have; if there are none, of all."""
    parts: dict[str, Any] = {"": data}
    if isinstance(data, MuData):
        parts = {name: data.mod[name] for name in modalities}
        parts = {name: p for name, p in parts.items() if p.n_obs == data.n_obs} or parts
    blocks = []
    for part in parts.values():
        row = part.obs_names.get_indexer(data.obs_names[chosen])
        counts = Rows(counts_in(part, layer))[row[row >= 0]]
        components = principal_components(counts, _N_GENES)
        block = np.zeros((len(row), components.shape[1]))  # cells without it: at the mean
        scale = np.sqrt(components.var(0).sum()) or 1.0
        block[row >= 0] = (components - components.mean(0)) / scale
        blocks.append(block)
    names = " and ".join(filter(None, parts))
    words = "principal components of log-normalised counts"
    return np.hstack(blocks), words + (f" of {names}" if names else "")


def counts_in(part: AnnData, layer: str | None) -> Any:
    """Counts of a modality: the layer if it has it, else ``X``."""
    return part.X if layer is None else part.layers.get(layer, part.X)


def _two_of(space: np.ndarray, words: str, remark: str) -> tuple[str, np.ndarray, str]:
    """UMAP of a space of many dimensions, or its first two if there are few cells."""
    if space.shape[1] <= 2 or len(space) < _FEW:
        missing = max(0, 2 - space.shape[1])  # of one gene, or two cells
        return "X_pca", np.pad(space[:, :2], ((0, 0), (0, missing))), words
    cells = AnnData(obs=pd.DataFrame(index=np.arange(len(space)).astype(str)))
    cells.obsm[_SPACE] = space
    is_many = len(space) > _MOST_EXACT
    neighbors = _Neighbors(n_neighbors=15, random_state=0) if is_many else None
    sc.pp.neighbors(cells, use_rep=_SPACE, random_state=0, transformer=neighbors)
    sc.tl.umap(cells, maxiter=_N_EPOCHS, random_state=0)
    return UMAP, np.asarray(cells.obsm[UMAP]), f"UMAP of {words}, {remark}"


def embedding(
    layout: Layout, labels: pd.Series | None = None, colors: Sequence[str] | None = None
) -> Drawn:
    """Cells with their metacells over them, in the colours of their labels if not too many."""
    cells = layout.cells
    color = None
    if labels is not None and labels.nunique() <= MAX_LABELS:
        color = str(labels.name)
        cells.obs[color] = labels.reindex(cells.obs_names)
        cells.uns.update({} if colors is None else {f"{color}_colors": colors})
    ax = pl.embedding(cells, basis=layout.basis, color=color)
    source = svg_source(ax)  # places the axes in the picture
    position: Any = cells.obsm[layout.basis]
    middle = pd.DataFrame(position[:, :2]).groupby(cells.obs[_keys.METACELL].to_numpy()).mean()
    figure: Any = ax.get_figure(root=True)
    share = ax.transData.transform(middle) / figure.bbox.size
    places = pd.DataFrame({"x": share[:, 0], "y": 1 - share[:, 1]}, middle.index)
    return Drawn(source, color, places)


def purity(summary: LabelSummary, colors: Sequence[str] | None = None) -> str:
    """Purity of metacells, by their majority label, of the most frequent ones."""
    frequent = summary.labels.index[:MAX_LABELS]
    shown = AnnData(obs=summary.metacells[summary.metacells[summary.key].isin(frequent)])
    shown.uns.update({} if colors is None else {f"{summary.key}_colors": colors})
    return svg_source(pl.purity(shown, summary.key))


def training(history: Mapping[str, pd.DataFrame]) -> str | None:
    """Curves of training, but for those that are zero throughout; none of few epochs."""
    curves = {
        key: curve
        for key, curve in history.items()
        if curve.to_numpy().any() and not key.endswith("_step")
    }
    if max(map(len, curves.values()), default=0) < MIN_EPOCHS:
        return None
    return svg_source(pl.training(curves)[0])
