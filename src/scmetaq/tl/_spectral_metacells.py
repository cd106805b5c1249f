"""Metacells by spectral clustering of any embedding."""

import warnings
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from scmetaq.tl._neighbor_affinity import neighbor_affinity
from scmetaq.tl._spectral_rows import spectral_rows

MAX_VECTORS: Final = 100
N_STEPS: Final = 2
_LARGEST: Final = 1e100
"""Coordinates must be below this: distances are squared."""


def spectral_metacells(
    z: ArrayLike, n_metacells: int, *, n_neighbors: int = 15, seed: int = 0
) -> np.ndarray:
    r"""Group cells into metacells by spectral clustering of their nearest-neighbour graph.

    The cells become a graph: each is joined to its nearest neighbours in Euclidean distance, with
    the affinities

    .. math::
        w_{ij} = \exp\!\Big(-\frac{\|z_i - z_j\|^2}{\sigma_i \sigma_j}\Big),
        \qquad A = \tfrac{1}{2} (W + W^\top)

    where :math:`\sigma_i` is the median distance of cell :math:`i` to its neighbours. With the
    degrees :math:`D = \mathrm{diag}(A 1)` and the leading eigenvectors

    .. math:: D^{-1/2} A D^{-1/2} u_r = \lambda_r u_r, \qquad r = 1, \dots, R,

    k-means groups the rows :math:`(\lambda_1^2 u_{1i}, \dots, \lambda_R^2 u_{Ri})`, scaled to
    length one. This is the grouping of COEM; it needs no model, only an embedding.

    Parameters
    ----------
    z
        Embedding of the cells, ``(n_cells, d)``: principal components, the latent of a model, or
        coordinates joint to several modalities. The scale of all of it does not matter, that of
        one dimension against another does.
    n_metacells
        Number of metacells: at least 2, less than ``n_cells``.
    n_neighbors
        Neighbours of each cell; at most ``n_cells - 1`` are used.
    seed
        Seed of the eigensolver's start, of k-means, and of the approximate neighbour search.

    Returns
    -------
    Metacell of each cell, ``(n_cells,)`` int64. Every number from 0 to ``n_metacells - 1`` has at
    least one cell. The numbers are in no order.

    Raises
    ------
    TypeError
        ``n_metacells`` or ``n_neighbors`` is no integer, or ``z`` holds no numbers.
    ValueError
        ``z`` is no matrix of finite numbers, or ``n_metacells`` or ``n_neighbors`` is out of range.

    Notes
    -----
    The same seed gives the same metacells, and the order of the cells does not matter: they are
    sorted by their coordinates first.

    A graph may fall into parts. No metacell spans two parts: each part gets metacells in
    proportion to its cells, at least one, and is clustered alone. If there are more parts than
    metacells, the graph says too little, and k-means groups ``z`` itself.

    At most 100 eigenvectors are used, also for more metacells: :math:`R = \min(K, 100)`. As many
    as metacells, as textbooks have it, would take time and memory in proportion to :math:`NK`.
    Neighbours are exact up to 100,000 cells, and approximate beyond; eigenvectors are accurate up
    to 20,000 cells, and beyond come from a fixed number of randomised iterations. Memory grows
    linearly.

    Rows are weighted by squared eigenvalues since unweighted unit rows were less pure, and rows
    that are not scaled to length one made giant metacells beside tiny ones. Against k-means on
    ``z``, sizes are more even at level purity, and rare types are more often lost; the user guide
    has the numbers.

    References
    ----------
    Ng, Jordan and Weiss, On spectral clustering, NIPS 2001 (unit rows of eigenvectors).
    Zelnik-Manor and Perona, Self-tuning spectral clustering, NIPS 2004 (the kernel).
    Mao et al., COEM: Cross-Modal Embedding for MetaCell Identification, 2022.
    """
    z = _checked_embedding(z)
    _check_numbers(len(z), n_metacells, n_neighbors)
    order = np.lexsort(z.T)
    labels = np.empty(len(z), dtype=np.int64)
    labels[order] = _cluster(z[order], n_metacells, min(n_neighbors, len(z) - 1), seed)
    return labels


def _cluster(z: np.ndarray, n_metacells: int, n_neighbors: int, seed: int) -> np.ndarray:
    """Cluster every part of the neighbour graph, ``(n_cells,)``."""
    affinity = neighbor_affinity(z, n_neighbors, seed=seed)
    n_parts, part = connected_components(affinity, directed=False)
    if n_parts > n_metacells:
        return _kmeans(z, n_metacells, seed)
    labels = np.empty(len(z), dtype=np.int64)
    first = 0
    for i, share in enumerate(_shares(np.bincount(part), n_metacells)):
        cells = np.flatnonzero(part == i)
        labels[cells] = first + _cluster_part(affinity[cells][:, cells], int(share), seed)
        first += int(share)
    return labels


def _shares(sizes: np.ndarray, n: int) -> np.ndarray:
    """Seats of parts in proportion to their sizes by Webster's method, at least one each."""
    shares = np.ones(len(sizes), dtype=np.int64)
    for _ in range(n - len(sizes)):
        shares[np.argmax(sizes / (shares + 0.5))] += 1
    return shares


def _cluster_part(affinity: sp.csr_matrix, n_groups: int, seed: int) -> np.ndarray:
    """Cluster a connected graph by its eigenvectors, ``(n_cells_of_part,)``."""
    if n_groups == 1:
        return np.zeros(affinity.shape[0], dtype=np.int64)
    n_vectors = min(n_groups, MAX_VECTORS)
    rows = spectral_rows(affinity, n_vectors, n_steps=N_STEPS, seed=seed)
    return _kmeans(rows.astype(np.float32), n_groups, seed)


def _kmeans(rows: np.ndarray, n_groups: int, seed: int) -> np.ndarray:
    with warnings.catch_warnings():  # fewer distinct rows than groups: groups are split below
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = KMeans(n_groups, n_init=1, random_state=seed).fit_predict(rows)
    return _fill(rows, np.unique(labels, return_inverse=True)[1], n_groups)


def _fill(rows: np.ndarray, labels: np.ndarray, n_groups: int) -> np.ndarray:
    """Halve the largest group until there are as many groups as asked for."""
    labels = labels.astype(np.int64)
    for new in range(labels.max() + 1, n_groups):
        cells = np.flatnonzero(labels == np.bincount(labels).argmax())
        centred = rows[cells] - rows[cells].mean(0)
        main = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        order = np.argsort(centred @ main, kind="stable")
        labels[cells[order[len(cells) // 2 :]]] = new
    return labels


def _checked_embedding(z: Any) -> np.ndarray:
    if sp.issparse(z):
        raise TypeError("Expected `z` as a dense array, found a sparse matrix. Reduce it first.")
    if np.iscomplexobj(z):
        raise TypeError("Expected `z` as real numbers, found complex ones.")
    try:
        z = np.asarray(z, dtype=np.float64)
    except (TypeError, ValueError) as error:
        found = type(z).__name__
        raise TypeError(f"Expected `z` as an array of numbers, found {found}.") from error
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(
            f"Expected `z` of shape (n_cells, d), an embedding of the cells, found shape {z.shape}."
        )
    n_bad = int((~(np.abs(z) < _LARGEST)).any(1).sum())
    if n_bad > 0:
        raise ValueError(
            f"Expected finite numbers in `z`, found missing, infinite or huge ones in {n_bad} of "
            f"{len(z)} cells. Leave these cells out, or compute their embedding again."
        )
    return z


def _check_numbers(n_cells: int, n_metacells: int, n_neighbors: int) -> None:
    for name, value in (("n_metacells", n_metacells), ("n_neighbors", n_neighbors)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"Expected `{name}` as an integer, found {value!r}.")
    if not 2 <= n_metacells < n_cells:
        raise ValueError(
            f"Expected `n_metacells` of at least 2 and less than the {n_cells} cells, "
            f"found {n_metacells}."
        )
    if n_neighbors < 1:
        raise ValueError(f"Expected `n_neighbors` of at least 1, found {n_neighbors}.")
