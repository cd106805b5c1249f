"""Which cells are alike: a sparse graph of nearest neighbours with weights."""

from typing import Final

import numpy as np
import scipy.sparse as sp
from sklearn.neighbors import NearestNeighbors

MAX_EXACT_CELLS: Final = 100_000
"""Exact search takes quadratic time; up to here it is the faster one."""


def neighbor_affinity(z: np.ndarray, n_neighbors: int, *, seed: int = 0) -> sp.csr_matrix:
    r"""Symmetric affinities of nearest neighbours, by a kernel that widens where cells are sparse.

    .. math::
        w_{ij} = \exp\!\Big(-\frac{\|z_i - z_j\|^2}{\sigma_i \sigma_j}\Big),
        \qquad A = \tfrac{1}{2} (W + W^\top)

    where :math:`j` is one of the nearest neighbours of :math:`i`, and :math:`\sigma_i` the median
    distance of cell :math:`i` to them. Neighbours at distance zero say nothing about a width and
    are left out of the median.

    Parameters
    ----------
    z
        Embedding, ``(n_cells, d)``, finite.
    n_neighbors
        Neighbours of each cell, without the cell itself; less than ``n_cells``.
    seed
        Seed of the approximate search, which large data need.

    Returns
    -------
    Affinities in (0, 1], ``(n_cells, n_cells)`` CSR with an empty diagonal.

    References
    ----------
    Zelnik-Manor and Perona, Self-tuning spectral clustering, NIPS 2004 (the kernel).
    """
    search = _exact if len(z) <= MAX_EXACT_CELLS else _approximate
    neighbors, distances = _without_self(*search(z, n_neighbors + 1, seed))
    width = _widths(distances)
    # a weight that underflows to zero would cut the graph
    exponent = np.minimum(distances**2 / (width[:, None] * width[neighbors]), 600.0)
    starts = np.arange(0, neighbors.size + 1, n_neighbors)
    shape = (len(z), len(z))
    W = sp.csr_matrix((np.exp(-exponent).ravel(), neighbors.ravel(), starts), shape=shape)
    return sp.csr_matrix((W + W.T) / 2)


def _exact(z: np.ndarray, n: int, _seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of and distances to the ``n`` nearest cells, the cell itself being one of them."""
    distances, neighbors = NearestNeighbors(n_neighbors=n).fit(z).kneighbors(z)
    return neighbors, distances


def _approximate(z: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from pynndescent import NNDescent  # its import compiles

    index = NNDescent(z.astype(np.float32), n_neighbors=n, random_state=seed)
    neighbors, distances = (part.copy() for part in index.neighbor_graph)
    missed = np.flatnonzero((neighbors < 0).any(1))
    if len(missed) > 0:
        distances[missed], neighbors[missed] = (
            NearestNeighbors(n_neighbors=n).fit(z).kneighbors(z[missed])
        )
    return neighbors, distances.astype(np.float64)


def _without_self(neighbors: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop the cell itself; among many duplicates it may be absent, then drop the farthest."""
    n_cells, n = neighbors.shape
    drop = neighbors == np.arange(n_cells)[:, None]
    drop[~drop.any(1), -1] = True
    return neighbors[~drop].reshape(n_cells, n - 1), distances[~drop].reshape(n_cells, n - 1)


def _widths(distances: np.ndarray) -> np.ndarray:
    """Median distance per cell to the neighbours that are no duplicates of it, ``(n_cells,)``."""
    medians = np.ma.median(np.ma.masked_equal(distances, 0), axis=1)
    medians = np.ma.filled(medians.astype(np.float64), np.nan)
    known = medians[~np.isnan(medians)]
    return np.where(np.isnan(medians), np.median(known) if len(known) > 0 else 1.0, medians)
