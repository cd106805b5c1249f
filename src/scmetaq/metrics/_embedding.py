"""Metacells in an embedding: how compact, how far apart, how dense, and how their labels lie."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from scmetaq._errors import InputValueError, check_int

from ._diffusion import DiffusionMap, diffusion_compactness, diffusion_separation
from ._groups import as_embedding, group_labels, grouped_rows
from ._labels import count_labels

_BLOCK = 1024
"""Metacells whose distances to all others are held at once."""


def euclidean_compactness(X: ArrayLike, assignment: ArrayLike) -> pd.Series:
    r"""Variance of an embedding's coordinates within each metacell, mean over coordinates.

    .. math::

        \frac{1}{D} \sum_{d=1}^{D} \frac{1}{|M| - 1} \sum_{i \in M} (x_{id} - \bar x_{Md})^2

    See Bilous et al., Molecular Systems Biology 2024 (MetacellAnalysisToolkit). Like
    :func:`diffusion_compactness`, of which it is the plain form, it is better lower.

    Parameters
    ----------
    X
        Embedding, shape ``(n_cells, n_dimensions)``, e.g. principal components.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.

    Returns
    -------
    Value per metacell, shape ``(n_metacells,)``, in squared units of the embedding; NaN for a
    metacell of one cell. Comparable between groupings of the same cells in one embedding only.
    """
    return diffusion_compactness(_as_space(X), assignment).rename("euclidean_compactness")


def euclidean_separation(X: ArrayLike, assignment: ArrayLike) -> pd.Series:
    r"""Distance of each metacell's mean to the nearest other's in an embedding.

    .. math:: \min_{M' \ne M} \lVert \bar x_M - \bar x_{M'} \rVert

    with arguments, symbols and source as of :func:`euclidean_compactness`.

    Returns
    -------
    Value per metacell, shape ``(n_metacells,)``, in units of the embedding; higher is better.
    """
    return diffusion_separation(_as_space(X), assignment).rename("euclidean_separation")


def density(
    X: ArrayLike | DiffusionMap, assignment: ArrayLike, *, n_neighbors: int = 150
) -> pd.Series:
    r"""Density of cells in the region of each metacell.

    .. math:: \frac{1}{|M|} \sum_{i \in M} \frac{1}{\lVert x_i - x_{(k)} \rVert}

    with the :math:`k`-th nearest neighbour :math:`x_{(k)}` of cell :math:`i` among all cells: the
    density of cells of SEACells (Persad et al., Nature Biotechnology 2023), averaged.

    Parameters
    ----------
    X
        Embedding of all cells, also of those left out, shape ``(n_cells, n_dimensions)``, or their
        :func:`diffusion_map`, as in SEACells.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    n_neighbors
        The neighbour :math:`k`. The search is exact and takes time quadratic in the cells.

    Returns
    -------
    Value per metacell, shape ``(n_metacells,)``, in 1 / units of the embedding; neither high nor
    low is better: good metacells lie in sparse regions, too. NaN for a metacell of cells in pieces
    of the graph with at most ``n_neighbors`` cells.
    """
    check_int("n_neighbors", n_neighbors)
    space = _as_space(X)
    _, groups = grouped_rows(np.isnan(space.components), assignment)
    values = np.full(len(space.piece), np.nan)
    for piece, size in enumerate(np.bincount(space.piece)):
        inside = space.piece == piece
        if size > n_neighbors and not np.isnan(space.components[inside]).any():
            search = NearestNeighbors(n_neighbors=n_neighbors).fit(space.components[inside])
            with np.errstate(divide="ignore"):  # so many cells in one place
                values[inside] = 1 / search.kneighbors()[0][:, -1]
    if np.isnan(values).all():
        problem = f"Expected more than `n_neighbors` ({n_neighbors}) cells, found {len(values)}."
        raise InputValueError(problem, "Lower `n_neighbors`.", "n_neighbors")
    means = pd.Series(values).groupby(groups.codes).mean().reindex(range(len(groups.names)))
    return groups.series(means.to_numpy(), "density")


class Silhouette(NamedTuple):
    """How well metacells part labels.

    Attributes
    ----------
    silhouette
        Mean over cells, in [-1, 1].
    of_label, of_metacell
        Mean over the cells of each label, and of each metacell.
    """

    silhouette: float
    of_label: pd.Series
    of_metacell: pd.Series


def silhouette(X: ArrayLike, assignment: ArrayLike, labels: ArrayLike) -> Silhouette:
    r"""Silhouette width of the labels of metacells as points in an embedding, weighted by size.

    .. math::

        s(M, c) = \frac{b - a}{\max(a, b)}, \quad
        a = \frac{\sum_{M'} n_{M'c} \, d(M, M')}{\sum_{M'} n_{M'c} - n_{Mc}}, \quad
        b = \min_{c' \ne c} \frac{\sum_{M'} n_{M'c'} \, d(M, M')}{\sum_{M'} n_{M'c'}}

    with distances :math:`d` between means, and :math:`n_{Mc}` cells of metacell :math:`M` with the
    label :math:`c`. As in SuperCell (Bilous et al., BMC Bioinformatics 2022), with metacells split
    by label as in its version 2: where each has one label, it is the same number, and a metacell of
    two labels has them in one place. By majority labels alone random metacells would score high.

    Parameters
    ----------
    X
        Embedding, shape ``(n_cells, n_dimensions)``.
    assignment, labels
        As of :func:`purity`.

    Returns
    -------
    Means over cells; higher is better; 0 for a label in one metacell only. NaN where all cells have
    one label, and for metacells without labelled cells. Comparable within one embedding.
    """
    rows, groups = grouped_rows(as_embedding(X, "X"), assignment)
    found, _ = count_labels(assignment, labels)
    counts = found.toarray()  # K x C
    names = group_labels(labels).names[counts.any(axis=0)].rename("label")
    counts = counts[:, counts.any(axis=0)]
    means = pd.DataFrame(rows).groupby(groups.codes).mean().drop(-1, errors="ignore").to_numpy()
    total, widths = counts.sum(axis=0), np.full(counts.shape, np.nan)
    for start in range(0, len(means) if len(names) > 1 else 0, _BLOCK):
        block = slice(start, start + _BLOCK)
        sums = cdist(means[block], means) @ counts  # B x C
        others = total - counts[block]
        inside, outside = sums / np.maximum(others, 1), sums / total
        best = np.sort(outside, axis=1)[:, :2]
        is_best = np.arange(len(names)) == outside.argmin(axis=1)[:, None]
        nearest = np.where(is_best, best[:, 1:], best[:, :1])
        largest = np.maximum(np.maximum(inside, nearest), np.finfo(float).tiny)
        widths[block] = np.where(others > 0, (nearest - inside) / largest, 0)
    weighted = counts * widths
    with np.errstate(invalid="ignore"):  # metacells without labelled cells
        of_metacell = weighted.sum(axis=1) / counts.sum(axis=1)
    return Silhouette(
        silhouette=float(weighted.sum() / total.sum()),
        of_label=pd.Series(weighted.sum(axis=0) / total, names, name="silhouette"),
        of_metacell=groups.series(of_metacell, "silhouette"),
    )


def _as_space(X: Any) -> DiffusionMap:
    """A diffusion map, or the coordinates of an embedding in the place of its components."""
    if isinstance(X, DiffusionMap):
        return X
    rows = as_embedding(X, "X")
    return DiffusionMap(rows, np.empty(0), np.zeros(len(rows), np.int64))
