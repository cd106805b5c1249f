"""Metacells in an embedding: how compact, far apart and dense, and how well they part labels."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from scmetaq._errors import InputValueError, check_int

from ._diffusion import DiffusionMap, diffusion_compactness, diffusion_separation
from ._groups import as_embedding, grouped_rows
from ._labels import count_labels

_BLOCK = 1024  # metacells whose distances to all others are held at once


def euclidean_compactness(X: ArrayLike, assignment: ArrayLike) -> pd.Series:
    r"""Variance of an embedding's coordinates within each metacell, mean over coordinates.

    .. math::

        \frac{1}{D} \sum_{d=1}^{D} \frac{1}{|M| - 1} \sum_{i \in M} (x_{id} - \bar x_{Md})^2

    :func:`diffusion_compactness` of coordinates as they are (Bilous et al., Molecular Systems
    Biology 2024, MetacellAnalysisToolkit): in squared units of the embedding, **lower** is better.
    """
    return diffusion_compactness(_as_space(X), assignment).rename("euclidean_compactness")


def euclidean_separation(X: ArrayLike, assignment: ArrayLike) -> pd.Series:
    r"""Distance of each metacell's mean to the nearest other's in an embedding.

    .. math:: \min_{M' \ne M} \lVert \bar x_M - \bar x_{M'} \rVert

    :func:`diffusion_separation` of coordinates as they are: in units of the embedding, higher is
    better. Source as of :func:`euclidean_compactness`.
    """
    return diffusion_separation(_as_space(X), assignment).rename("euclidean_separation")


def density(
    X: ArrayLike | DiffusionMap, assignment: ArrayLike, *, n_neighbors: int = 150
) -> pd.Series:
    r"""Density of cells in the region of each metacell.

    .. math:: \frac{1}{|M|} \sum_{i \in M} \frac{1}{\lVert x_i - x_{i(k)} \rVert}

    with the :math:`k`-th nearest neighbour :math:`x_{i(k)}` of a cell among all cells: the density
    of cells of SEACells (Persad et al., Nature Biotechnology 2023), averaged.

    ``X`` is their embedding or, as in SEACells, :func:`diffusion_map`; the search for neighbour
    ``n_neighbors`` is exact, in time quadratic in the cells. In 1 / units of ``X``. Neither high
    nor low is better: good metacells lie in sparse regions, too. NaN in a piece of at most
    ``n_neighbors`` cells.
    """
    check_int("n_neighbors", n_neighbors)
    space = _as_space(X)
    _, groups = grouped_rows(np.isnan(space.components), assignment)
    sizes, values = np.bincount(space.piece), np.full(len(space.piece), np.nan)
    if sizes.max() <= n_neighbors:
        problem = f"Expected more than `n_neighbors` ({n_neighbors}) cells, found {sizes.max()}"
        raise InputValueError(f"{problem} at most in one piece.", "Lower it.", "n_neighbors")
    for piece in np.flatnonzero(sizes > n_neighbors):
        rows = space.components[inside := space.piece == piece]
        if not np.isnan(rows).any():
            search = NearestNeighbors(n_neighbors=n_neighbors).fit(rows)
            with np.errstate(divide="ignore"):  # where all are in one place
                values[inside] = 1 / search.kneighbors()[0][:, -1]
    means = pd.Series(values).groupby(groups.codes).mean().reindex(range(len(groups.names)))
    return groups.series(means.to_numpy(), "density")


def silhouette(X: ArrayLike, assignment: ArrayLike, labels: ArrayLike) -> float:
    r"""Silhouette width of labels, with metacells as points weighted by their sizes.

    .. math::

        s = \frac{1}{N} \sum_{M, c} n_{Mc} \frac{b - a}{\max(a, b)}, \quad
        a = \frac{\sum_{M'} n_{M'c} \, d(M, M')}{\sum_{M'} n_{M'c} - n_{Mc}}, \quad
        b = \min_{c' \ne c} \frac{\sum_{M'} n_{M'c'} \, d(M, M')}{\sum_{M'} n_{M'c'}}

    with distances :math:`d` of means in an embedding, shape ``(n_cells, n_dimensions)``, and
    :math:`n_{Mc}` cells of metacell :math:`M` with the label :math:`c`, of :math:`N`. SuperCell's
    (Bilous et al., BMC Bioinformatics 2022), with metacells split by label as in its version 2: by
    majority labels alone, metacells at random score high. Arguments are else as of :func:`purity`.

    The number is in [-1, 1]; higher is better; a label in one metacell only counts 0; NaN for one
    label. Comparable within one embedding.
    """
    rows, groups = grouped_rows(as_embedding(X, "X"), assignment)
    counts = count_labels(assignment, labels)[0].toarray()  # K x C
    counts = counts[:, counts.any(axis=0)]
    means = pd.DataFrame(rows).groupby(groups.codes).mean().drop(-1, errors="ignore").to_numpy()
    total, score = counts.sum(axis=0), 0.0
    if len(total) < 2:
        return np.nan
    for start in range(0, len(means), _BLOCK):
        block = slice(start, start + _BLOCK)
        sums = cdist(means[block], means) @ counts  # B x C
        others, outside = total - counts[block], sums / total
        inside = sums / np.maximum(others, 1)
        first, second = np.sort(outside, axis=1)[:, :2].T[..., None]
        nearest = np.where(np.arange(len(total)) == outside.argmin(1)[:, None], second, first)
        largest = np.maximum(np.maximum(inside, nearest), np.finfo(float).tiny)
        score += (counts[block] * np.where(others > 0, (nearest - inside) / largest, 0)).sum()
    return float(score / total.sum())


def _as_space(X: Any) -> DiffusionMap:
    """A diffusion map, or the coordinates of an embedding in the place of its components."""
    if isinstance(X, DiffusionMap):
        return X
    rows = as_embedding(X, "X")
    return DiffusionMap(rows, np.empty(0), np.zeros(len(rows), np.int64))
