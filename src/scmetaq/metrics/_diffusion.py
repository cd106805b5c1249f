"""Diffusion map of cells, and how compact and how far apart metacells are in it."""

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh
from sklearn.neighbors import NearestNeighbors

from scmetaq._errors import InputValueError, check_int

from ._groups import Groups, as_embedding, grouped_rows


class DiffusionMap(NamedTuple):
    """Diffusion components of cells, and the piece of the graph that each cell is in.

    Components are scaled eigenvectors, shape ``(n_cells, n_components - 1)``, without the constant
    one; NaN where the piece has too few cells. Those of two pieces are not comparable: distances
    between pieces are infinite. Eigenvalues, largest first, are those of the largest piece.
    """

    components: np.ndarray
    eigenvalues: np.ndarray
    piece: np.ndarray


class NoMapError(InputValueError):
    """Too few cells, or a graph of neighbours that has only pieces of few."""


def diffusion_map(X: ArrayLike, *, n_components: int = 10, n_neighbors: int = 30) -> DiffusionMap:
    r"""Embed cells by the slowest modes of a random walk on their neighbour graph.

    .. math::

        W_{ij} = \exp(-\lVert x_i - x_j \rVert / \sigma_i), \quad
        K = W + W^\top, \quad
        D^{-1} K \psi_l = \lambda_l \psi_l, \quad
        \text{component}_l = \frac{\lambda_l}{1 - \lambda_l} \frac{\psi_l}{\lVert \psi_l \rVert}

    :math:`W` joins each cell to its nearest neighbours; the bandwidth :math:`\sigma_i`, the
    distance to the neighbour at a third of their number, adapts to density. The factor sums the
    walk over all numbers of steps. The exact neighbours take time quadratic in the number of cells;
    memory is linear. A walk never leaves an unconnected piece of the graph: each piece has a map of
    its own, with components of length :math:`\sqrt{n_p / n}` before they are scaled, for its
    :math:`n_p` of the :math:`n` cells, so that cells vary as much as in one piece. Components of
    pieces with at most ``n_components`` cells are NaN.

    Parameters
    ----------
    X
        Embedding, shape ``(n_cells, n_dimensions)``, dense: latents, or principal components of
        log1p counts, say. Not the genes themselves.
    n_components
        Eigenvectors computed, the constant one included.
    n_neighbors
        Neighbours per cell, the cell itself included.

    Returns
    -------
    Components and eigenvalues. The largest entry of a component in absolute value is positive.
    Components have length one before they are scaled: their size shrinks with the number of cells,
    so that numbers made from them are comparable between groupings of the same cells only.

    References
    ----------
    Setty et al., Palantir, Nature Biotechnology 2019. Coifman and Lafon, Diffusion maps, Applied
    and Computational Harmonic Analysis 2006.
    """
    check_int("n_components", n_components, least=2)
    check_int("n_neighbors", n_neighbors, least=4)
    embedding = as_embedding(X, "X")
    if len(embedding) <= max(n_components, n_neighbors):
        problem = f"Expected more cells than `n_neighbors` ({n_neighbors}) and `n_components`"
        problem += f" ({n_components}) of `diffusion_map`, found {len(embedding)}."
        raise NoMapError(problem, "Pass more cells, or lower these there.", "n_neighbors")
    kernel = _adaptive_kernel(embedding, n_neighbors)
    _, piece = connected_components(kernel, directed=False)  # N
    sizes = np.bincount(piece)
    if sizes.max() <= n_components:
        problem = f"Expected a connected graph of neighbours, found pieces of at most {sizes.max()}"
        problem += f" cells for `n_components` ({n_components})."
        fix = f"Raise `n_neighbors` of `diffusion_map` ({n_neighbors})."
        raise NoMapError(problem, fix, "n_neighbors")
    components = np.full((len(piece), n_components - 1), np.nan)  # N x L
    eigenvalues = np.empty(n_components - 1)
    for i in np.flatnonzero(sizes > n_components):
        inside = piece == i
        values, vectors = _slowest_modes(kernel[inside][:, inside], n_components)
        largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]  # L
        factor = values / (1 - values) * np.sign(largest) * np.sqrt(inside.mean())
        components[inside] = vectors * factor
        if i == sizes.argmax():
            eigenvalues = values
    return DiffusionMap(components, eigenvalues, piece)


def diffusion_compactness(X: ArrayLike | DiffusionMap, assignment: ArrayLike) -> pd.Series:
    r"""Variance of diffusion components within each metacell, mean over components.

    .. math::

        \frac{1}{L} \sum_{l=1}^{L} \frac{1}{|M| - 1} \sum_{i \in M} (c_{il} - \bar c_{Ml})^2

    with :math:`L` diffusion components :math:`c` and their mean :math:`\bar c_M` in the metacell
    (Persad et al., SEACells, Nature Biotechnology 2023). Lower is better, while
    :func:`~scmetaq.metrics.compactness`, a correlation, is better higher.

    Parameters
    ----------
    X
        Embedding of all cells, also of those left out, shape ``(n_cells, n_dimensions)``, e.g.
        principal components; or their :func:`diffusion_map`, computed once.
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.

    Returns
    -------
    Value per metacell, shape ``(n_metacells,)``, in squared units of the components; NaN for a
    metacell of one cell, or of cells without components. Comparable between groupings of the same
    cells only. A metacell is measured in the piece of the graph that has most of its cells; a
    warning says how many have cells in two.
    """
    components, _, groups = _grouped_components(X, assignment)
    variance = components.groupby(level=0).var().reindex(range(len(groups.names)))  # K x L
    return groups.series(variance.mean(axis=1).to_numpy(), "diffusion_compactness")


def diffusion_separation(X: ArrayLike | DiffusionMap, assignment: ArrayLike) -> pd.Series:
    r"""Distance of each metacell's mean to the nearest other's, in diffusion components.

    .. math:: \min_{M' \ne M} \lVert \bar c_M - \bar c_{M'} \rVert

    with arguments and symbols as of :func:`diffusion_compactness` (Persad et al., SEACells, Nature
    Biotechnology 2023). In units of the components; higher is better; NaN for the only metacell of
    a piece of the graph, and of cells without components.
    """
    components, piece, groups = _grouped_components(X, assignment)
    means = components.groupby(level=0).mean()  # up to K x L
    if len(means) < 2:
        problem = "Expected at least two metacells, found only"
        fix = "Separation compares metacells; pass a finer assignment."
        raise InputValueError(f"{problem} {groups.names[means.index].tolist()}.", fix, "assignment")
    values = np.full(len(groups.names), np.nan)
    for inside in means.groupby(piece).groups.values():
        if len(inside) > 1:
            # a tree computes each distance from differences: exact however near two means are
            search = NearestNeighbors(n_neighbors=1, algorithm="kd_tree")
            values[inside] = search.fit(means.loc[inside].to_numpy()).kneighbors()[0].ravel()
    return groups.series(values, "diffusion_separation")


def _grouped_components(
    X: ArrayLike | DiffusionMap, assignment: ArrayLike
) -> tuple[pd.DataFrame, pd.Series, Groups]:
    """Components of the cells of a group in its piece, indexed by group; its piece; all groups."""
    if isinstance(X, DiffusionMap):
        space, groups = X, grouped_rows(np.isnan(X.components), assignment)[1]
    else:
        rows, groups = grouped_rows(X, assignment)
        space = diffusion_map(rows)
    kept = (groups.codes >= 0) & ~np.isnan(space.components).any(axis=1)
    components = pd.DataFrame(space.components[kept], index=groups.codes[kept])
    piece = pd.Series(space.piece[kept], index=components.index)
    most = piece.groupby(level=0).agg(lambda of: of.mode()[0])
    in_most = piece.to_numpy() == most[piece.index].to_numpy()
    if not in_most.all():
        n = piece.index[~in_most].nunique()
        warnings.warn(
            f"The graph of neighbours has {space.piece.max() + 1} pieces; {n} of {len(most)} "
            "metacells have cells in several, and are measured in the one that has most of them.",
            UserWarning,
            stacklevel=3,
        )
    return components[in_most], most, groups


def _adaptive_kernel(embedding: np.ndarray, n_neighbors: int) -> sp.csr_array:
    """Symmetric kernel on the graph of nearest neighbours, N x N."""
    n_cells, n_others = len(embedding), n_neighbors - 1
    search = NearestNeighbors(n_neighbors=n_others).fit(embedding)
    distances, neighbors = search.kneighbors()  # N x k, nearest first, the cell itself left out
    bandwidth = distances[:, [n_neighbors // 3 - 1]]
    # with a third of the neighbours in the very same place only those are near
    nearest_only = np.where(distances > 0, np.inf, 0.0)
    steps = np.divide(distances, bandwidth, out=nearest_only, where=bandwidth > 0)
    ends = np.arange(0, n_cells * n_others + 1, n_others)
    weights = sp.csr_array((np.exp(-steps).ravel(), neighbors.ravel(), ends), (n_cells, n_cells))
    kernel = sp.csr_array(weights + weights.T)
    kernel.eliminate_zeros()
    return kernel


def _slowest_modes(kernel: sp.csr_array, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues below one, largest first, and unit eigenvectors (N x L) of the random walk."""
    root = np.sqrt(np.asarray(kernel.sum(axis=1)).ravel())  # N
    # symmetric and similar to the walk, which lets Lanczos do it and keeps everything real
    walk = sp.csr_array(sp.diags_array(1 / root) @ kernel @ sp.diags_array(1 / root))
    start = np.random.default_rng(0).normal(size=len(root))
    n_lanczos = min(len(root), max(4 * n_components, 40))
    eigenvalues, vectors = eigsh(walk, n_components, which="LA", v0=start, ncv=n_lanczos, tol=1e-9)
    order = np.argsort(eigenvalues)[::-1][1:]
    modes = vectors[:, order] / root[:, None]
    return eigenvalues[order], modes / np.linalg.norm(modes, axis=0)
