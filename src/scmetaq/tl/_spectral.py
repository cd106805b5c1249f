"""Metacells by spectral clustering of any embedding."""

import warnings
from contextlib import suppress
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import randomized_svd

from scmetaq._errors import InputValueError, check_int, check_is_int
from scmetaq.metrics._groups import as_embedding

MAX_VECTORS: Final = 100
N_STEPS: Final = 2  # power of the eigenvalues
MAX_EXACT_CELLS: Final = 100_000  # exact search takes quadratic time; up to here it is the faster
_MAX_DENSE_CELLS: Final = 512
# with more cells Lanczos iterations take ever more steps to separate close eigenvalues
_MAX_LANCZOS_CELLS: Final = 20_000
_TOLERANCE: Final = 1e-5
_WORK: Final = 2_000  # number of vectors times number of powers in randomised iterations


def spectral_metacells(
    z: ArrayLike | sp.spmatrix | sp.sparray,
    n_metacells: int,
    *,
    n_neighbors: int = 15,
    seed: int = 0,
) -> np.ndarray:
    r"""Group cells into metacells by spectral clustering of their nearest-neighbour graph.

    Each cell is joined to its nearest neighbours in Euclidean distance, with the affinities

    .. math::
        w_{ij} = \exp\!\Big(-\frac{\|z_i - z_j\|^2}{\sigma_i \sigma_j}\Big),
        \qquad A = \tfrac{1}{2} (W + W^\top)

    where :math:`\sigma_i` is the median distance of cell :math:`i` to its neighbours. With the
    degrees :math:`D = \mathrm{diag}(A 1)` and the leading eigenvectors

    .. math:: D^{-1/2} A D^{-1/2} u_r = \lambda_r u_r, \qquad r = 1, \dots, \min(K, 100),

    k-means groups the rows :math:`(\lambda_1^2 u_{1i}, \dots, \lambda_R^2 u_{Ri})`, scaled to
    length one. This is the grouping of COEM; it needs no model, only an embedding.

    Parameters
    ----------
    z
        Embedding of the cells, ``(n_cells, d)``: principal components, the latent of a model, or
        coordinates joint to several modalities. Its overall scale does not matter, that of one
        dimension against another does. Or a neighbour graph, a sparse square matrix of weights such
        as ``adata.obsp["connectivities"]``, in place of the affinities :math:`W`.
    n_metacells
        Number of metacells: at least 2, less than ``n_cells``.
    n_neighbors
        Neighbours of each cell; at most ``n_cells - 1`` are used.
    seed
        Seed of the eigensolver's start, of k-means, and of the approximate neighbour search.

    Returns
    -------
    Metacell of each cell, ``(n_cells,)`` int64. Every number from 0 to ``n_metacells - 1``, in no
    order, has at least one cell.

    Raises
    ------
    TypeError, ValueError
        ``z`` is no matrix of finite real numbers or no graph of weights above zero, a graph has
        more parts than ``n_metacells``, or ``n_metacells`` or ``n_neighbors`` is no
        integer or out of range.

    Notes
    -----
    The same seed gives the same metacells, whatever the order of the cells. No metacell spans two
    parts of the graph: each part gets metacells in proportion to its cells, at least one, and is
    clustered alone. With more parts than metacells, k-means groups ``z`` itself.

    Neighbours are exact up to 100,000 cells, and approximate beyond; eigenvectors are accurate up
    to 20,000 cells, and beyond come from a fixed number of randomised iterations. Memory grows
    linearly. Compared with k-means on ``z``, sizes are more even at equal purity, and rare types
    are lost more often; the user guide has the numbers.

    References
    ----------
    Ng, Jordan and Weiss, On spectral clustering, NIPS 2001 (unit rows of eigenvectors).
    Zelnik-Manor and Perona, Self-tuning spectral clustering, NIPS 2004 (the kernel).
    Mao et al., COEM: Cross-Modal Embedding for MetaCell Identification, 2022.
    """
    graph = _as_graph(z) if sp.issparse(z) else None
    z = as_embedding(z, "z") if graph is None else graph
    check_is_int("n_metacells", n_metacells)
    check_int("n_neighbors", n_neighbors)
    n_cells = z.shape[0]
    if not 2 <= n_metacells < n_cells:
        problem = f"Expected n_metacells to be at least 2 and less than the {n_cells} cells,"
        raise InputValueError(f"{problem} found {n_metacells}.", argument="n_metacells")
    if graph is not None:
        return _cluster(graph, n_metacells, None, seed)
    order = np.lexsort(z.T)
    affinity = neighbor_affinity(z[order], min(n_neighbors, n_cells - 1), seed=seed)
    return _cluster(affinity, n_metacells, z[order], seed)[np.argsort(order)]


def _as_graph(given: Any) -> sp.csr_matrix:
    """A neighbour graph of weights above zero, made symmetric."""
    graph = sp.csr_matrix(given, dtype=np.float64)
    is_square = graph.shape[0] == graph.shape[1]
    if not is_square or not np.isfinite(graph.data).all() or graph.data.min(initial=0) < 0:
        problem = "Expected a neighbour graph as a square matrix of weights, none negative, found"
        fix = 'Pass e.g. adata.obsp["connectivities"], or an embedding as an array.'
        raise InputValueError(f"{problem} one of shape {graph.shape}.", fix, "z")
    graph = graph - sp.diags(graph.diagonal())
    graph = sp.csr_matrix((graph + graph.T) / 2)
    graph.eliminate_zeros()
    return graph


def _cluster(
    affinity: sp.csr_matrix, n_metacells: int, z: np.ndarray | None, seed: int
) -> np.ndarray:
    """Cluster every part of the neighbour graph, ``(n_cells,)``."""
    n_parts, part = connected_components(affinity, directed=False)
    if n_parts > n_metacells:
        if z is None:
            problem = f"Expected a graph of at most {n_metacells} parts, one per metacell, found"
            fix = "Use more neighbours, or more metacells."
            raise InputValueError(f"{problem} {n_parts}.", fix, "z")
        return _kmeans(z, n_metacells, seed)
    labels = np.empty(len(part), dtype=np.int64)
    first = 0
    for i, share in enumerate(_shares(np.bincount(part), n_metacells).tolist()):
        cells = np.flatnonzero(part == i)
        labels[cells] = first
        if share > 1:
            rows = spectral_rows(affinity[cells][:, cells], min(share, MAX_VECTORS), seed)
            labels[cells] += _kmeans(rows.astype(np.float32), share, seed)
        first += share
    return labels


def _shares(sizes: np.ndarray, n: int) -> np.ndarray:
    """Seats of parts in proportion to their sizes by Webster's method, at least one each."""
    shares = np.ones(len(sizes), dtype=np.int64)
    for _ in range(n - len(sizes)):
        shares[np.argmax(sizes / (shares + 0.5))] += 1
    return shares


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


def neighbor_affinity(z: np.ndarray, n_neighbors: int, *, seed: int = 0) -> sp.csr_matrix:
    """Affinities of nearest neighbours, N x N, as of :func:`spectral_metacells`."""
    neighbors, distances = _nearest(z, n_neighbors + 1, seed)
    # drop the cell itself; among many duplicates it may be absent, then drop the farthest
    drop = neighbors == np.arange(len(z))[:, None]
    drop[~drop.any(1), -1] = True
    neighbors, distances = (of[~drop].reshape(-1, n_neighbors) for of in (neighbors, distances))
    # median distance to the neighbours that are no duplicates, which say nothing about a width
    masked: Any = np.ma.median(np.ma.masked_equal(distances, 0), axis=1)
    medians = np.ma.filled(masked.astype(np.float64), np.nan)
    known = medians[~np.isnan(medians)]
    width = np.where(np.isnan(medians), np.median(known) if len(known) > 0 else 1.0, medians)
    # a weight that underflows to zero would cut the graph
    exponent = np.minimum(distances**2 / (width[:, None] * width[neighbors]), 600.0)
    starts = np.arange(0, neighbors.size + 1, n_neighbors)
    W = sp.csr_matrix((np.exp(-exponent).ravel(), neighbors.ravel(), starts), (len(z), len(z)))
    return sp.csr_matrix((W + W.T) / 2)


def _nearest(z: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of and distances to the ``n`` nearest cells, the cell itself being one of them."""

    def exact(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return NearestNeighbors(n_neighbors=n).fit(z).kneighbors(cells)

    if len(z) <= MAX_EXACT_CELLS:
        return exact(z)[::-1]
    from pynndescent import NNDescent  # its import compiles

    index = NNDescent(z.astype(np.float32), n_neighbors=n, random_state=seed)
    neighbors, distances = (part.copy() for part in index.neighbor_graph)
    missed = np.flatnonzero((neighbors < 0).any(1))
    if len(missed) > 0:
        distances[missed], neighbors[missed] = exact(z[missed])
    return neighbors, distances.astype(np.float64)


def spectral_rows(affinity: sp.csr_matrix, n_vectors: int, seed: int = 0) -> np.ndarray:
    """Unit rows of leading eigenvectors of a connected graph times powers of eigenvalues, N x R."""
    scale = 1 / np.sqrt(np.asarray(affinity.sum(1)).ravel())
    normalised = sp.csr_matrix(sp.diags_array(scale) @ affinity @ sp.diags_array(scale))
    values, vectors = _leading(normalised, n_vectors, seed)
    rows = vectors * np.clip(values, 0, 1) ** N_STEPS  # N x R
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def _leading(matrix: sp.csr_matrix, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues of a symmetric matrix, descending, and their eigenvectors."""
    n_cells = matrix.shape[0]
    start = np.random.default_rng(seed).normal(size=n_cells)
    found = None
    if n_cells <= _MAX_DENSE_CELLS:
        found = np.linalg.eigh(matrix.toarray())
    elif n_cells <= _MAX_LANCZOS_CELLS:
        with suppress(ArpackNoConvergence):
            found = eigsh(matrix, k=n, which="LA", v0=start, tol=_TOLERANCE)
    if found is None:
        # randomised iteration of fixed work (Halko, Martinsson and Tropp, SIAM Review 2011)
        powers = int(np.clip(_WORK // n, 10, 60))
        options: dict[str, Any] = {"n_oversamples": 20, "n_iter": powers, "random_state": seed}
        vectors, values, _ = randomized_svd(matrix, n, **options)
    else:
        values, vectors = found
    order = np.argsort(-values, kind="stable")[:n]
    return values[order], vectors[:, order]
