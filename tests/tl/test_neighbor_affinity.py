import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from scmetaq.tl import _neighbor_affinity
from scmetaq.tl._neighbor_affinity import neighbor_affinity


def by_hand(z, k):
    """Affinities cell by cell, as the equation says."""
    n = len(z)
    distance = np.sqrt(((z[:, None] - z[None]) ** 2).sum(-1))
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :k]
    width = [np.median(distance[i, nearest[i]]) for i in range(n)]
    W = np.zeros((n, n))
    for i in range(n):
        for j in nearest[i]:
            W[i, j] = np.exp(-(distance[i, j] ** 2) / (width[i] * width[j]))
    return (W + W.T) / 2


@pytest.fixture
def z(rng):
    return rng.normal(size=(80, 5))


def test_agrees_with_the_equation(z):
    np.testing.assert_allclose(neighbor_affinity(z, 7).toarray(), by_hand(z, 7), atol=1e-12)


def test_is_symmetric_without_diagonal_and_linear_in_size(z):
    A = neighbor_affinity(z, 7)
    assert abs(A - A.T).max() == 0
    assert A.diagonal().max() == 0
    assert A.nnz <= 2 * 7 * len(z)
    assert A.data.min() > 0


def test_scale_of_the_embedding_does_not_matter(z):
    np.testing.assert_allclose(
        neighbor_affinity(1e4 * z, 7).toarray(), neighbor_affinity(z, 7).toarray(), rtol=1e-9
    )


def test_duplicates_are_most_alike(z):
    z = np.vstack([z, np.repeat(z[:1], 20, axis=0)])  # more duplicates than neighbours
    A = neighbor_affinity(z, 7)
    assert np.isfinite(A.data).all()
    copies = A[80:, 80:]
    assert copies.nnz > 0
    np.testing.assert_array_equal(copies.data[copies.data > 0.5], 1)
    assert neighbor_affinity(np.ones((10, 2)), 3).data.max() == 1


class Search:
    """Stands in for pynndescent, whose compilation takes a minute: exact, but for two cells."""

    def __init__(self, z, n_neighbors, random_state):
        distances, neighbors = NearestNeighbors(n_neighbors=n_neighbors).fit(z).kneighbors(z)
        neighbors[[3, 5], 2:] = -1
        distances[[3, 5], 2:] = np.inf
        self.neighbor_graph = neighbors, distances


def test_what_the_approximate_search_misses_is_searched_exactly(z, monkeypatch):
    expected = neighbor_affinity(z, 7).toarray()
    monkeypatch.setattr(_neighbor_affinity, "MAX_EXACT_CELLS", 50)
    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=Search))
    np.testing.assert_allclose(neighbor_affinity(z, 7).toarray(), expected, rtol=1e-5)
