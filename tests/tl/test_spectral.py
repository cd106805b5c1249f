import sys
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence
from sklearn.cluster import KMeans
from sklearn.datasets import make_circles
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from scmetaq.metrics import purity
from scmetaq.tl import _spectral, spectral_metacells
from scmetaq.tl._spectral import _fill, _shares, neighbor_affinity, spectral_rows


@pytest.fixture(scope="module")
def z():
    """500 cells in five clouds that touch."""
    rng = np.random.default_rng(0)
    return np.repeat(4 * rng.normal(size=(5, 6)), 100, axis=0) + rng.normal(size=(500, 6))


@pytest.mark.parametrize("n_metacells", [2, 7, 60, 499])
def test_every_metacell_has_cells(z, n_metacells):
    before = z.copy()
    labels = spectral_metacells(z, n_metacells)
    assert (labels.shape, labels.dtype) == ((500,), np.int64)
    assert np.unique(labels).tolist() == list(range(n_metacells))
    np.testing.assert_array_equal(z, before)


def test_order_of_cells_does_not_matter_the_seed_decides_and_twins_are_grouped(z):
    order = np.random.default_rng(1).permutation(len(z))
    labels = spectral_metacells(z, 20, seed=4)
    np.testing.assert_array_equal(spectral_metacells(z[order], 20, seed=4), labels[order])
    np.testing.assert_array_equal(spectral_metacells(z.tolist(), 20, seed=4), labels)
    assert len(np.unique(spectral_metacells(np.zeros((50, 3)), 7))) == 7
    z = np.repeat(np.random.default_rng(0).normal(size=(8, 3)), 40, axis=0)
    labels = spectral_metacells(z, 8)
    assert all(len(set(labels[40 * i : 40 * i + 40])) == 1 for i in range(8))
    assert len(np.unique(spectral_metacells(z, 33))) == 33


def test_no_metacell_spans_parts_of_the_graph_and_groups_need_be_no_clouds(z):
    far = np.vstack([z, z[:30] + 1000, z[:100] - 1000])
    labels = spectral_metacells(far, 21)
    parts = [set(labels[:500]), set(labels[500:530]), set(labels[530:])]
    assert sum(len(part) for part in parts) == 21
    assert set.union(*parts) == set(range(21))
    assert len(parts[0]) > 3 * len(parts[2]) > 3 * len(parts[1])
    # more parts than metacells
    centres = 1000 * np.arange(6)[:, None] * np.ones(2)
    z = np.repeat(centres, 20, axis=0) + np.random.default_rng(0).normal(size=(120, 2))
    labels = spectral_metacells(z, 3)
    assert len(np.unique(labels)) == 3
    assert all(len(set(labels[20 * i : 20 * i + 20])) == 1 for i in range(6))
    z, ring = make_circles(600, factor=0.3, noise=0.04, random_state=0)
    assert adjusted_rand_score(ring, spectral_metacells(z, 2, n_neighbors=8)) == 1
    by_kmeans = KMeans(2, n_init=5, random_state=0).fit_predict(z)
    assert adjusted_rand_score(ring, by_kmeans) < 0.1


def test_few_eigenvectors_for_many_metacells(monkeypatch):
    one_cloud = np.random.default_rng(0).normal(size=(500, 4))
    spy = Mock(wraps=spectral_rows)
    monkeypatch.setattr(_spectral, "spectral_rows", spy)
    for n_metacells, n_vectors in ((12, 12), (150, 100)):
        spectral_metacells(one_cloud, n_metacells)
        assert spy.call_args.args[1] == n_vectors


def test_blood_cells_are_pure_and_sizes_even(blood):
    counts = blood.X.toarray()
    log = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
    z = PCA(20, random_state=0).fit_transform(log)
    labels = spectral_metacells(z, 16)
    sizes = np.bincount(labels)
    by_kmeans = np.bincount(KMeans(16, n_init=1, random_state=0).fit_predict(z))
    assert sizes.std() / sizes.mean() < by_kmeans.std() / by_kmeans.mean()
    shuffled = np.random.default_rng(0).permutation(labels)
    types = blood.obs["cell_type"].to_numpy()
    assert purity(labels, types).mean() > 0.7 > purity(shuffled, types).mean()


def test_shares_follow_sizes_and_the_largest_groups_are_halved():
    assert _shares(np.array([90, 10]), 10).tolist() == [9, 1]
    assert _shares(np.array([1000, 16, 16]), 10).tolist() == [8, 1, 1]
    assert (_shares(np.array([3, 3, 4]), 9) <= [3, 3, 4]).all()
    rows = np.arange(10.0)[:, None]
    labels = _fill(rows, np.array([0] * 8 + [1] * 2), 4)
    assert sorted(np.bincount(labels)) == [2, 2, 2, 4]
    assert all(np.ptp(np.flatnonzero(labels == i)) < 4 for i in range(4))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"z": np.zeros(5)}, TypeError, "cells by dimensions matrix.* with 1 dimensions"),
        ({"z": np.zeros((5, 0))}, ValueError, r"found shape \(5, 0\)"),
        ({"z": np.array([[0.0], [np.nan], [np.inf]])}, ValueError, "ones in 2 cells"),
        ({"z": np.array([[0.0], [1e200], [1.0]])}, ValueError, "huge ones in 1 cells"),
        ({"z": np.ones((9, 2), dtype=complex)}, TypeError, "numbers in `z`, found .* complex128"),
        ({"z": [["a"], ["b"]]}, TypeError, "numbers in `z`, found .* <U1"),
        ({"n_metacells": 1}, ValueError, "at least 2 and less than the 500 cells, found 1"),
        ({"n_metacells": 500}, ValueError, "less than the 500 cells, found 500"),
        ({"n_metacells": 2.5}, TypeError, "n_metacells to be an int, found 2.5"),
        ({"n_neighbors": 0}, ValueError, "n_neighbors to be at least 1, found 0"),
        ({"n_neighbors": True}, TypeError, "n_neighbors to be an int, found True"),
    ],
)
def test_bad_input_is_named(z, change, error, message):
    with pytest.raises(error, match=message):
        spectral_metacells(**{"z": z, "n_metacells": 5, **change})


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
def points(rng):
    return rng.normal(size=(80, 5))


def test_affinities_agree_with_the_equation_and_duplicates_are_most_alike(points):
    A = neighbor_affinity(points, 7)
    np.testing.assert_allclose(A.toarray(), by_hand(points, 7), atol=1e-12)
    assert abs(A - A.T).max() == 0
    assert A.diagonal().max() == 0
    assert A.nnz <= 2 * 7 * len(points)  # linear in size
    assert A.data.min() > 0
    scaled = neighbor_affinity(1e4 * points, 7).toarray()
    np.testing.assert_allclose(scaled, A.toarray(), rtol=1e-9)
    copied = np.repeat(points[:1], 20, axis=0)  # more duplicates than neighbours
    A = neighbor_affinity(np.vstack([points, copied]), 7)
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


def test_what_the_approximate_search_misses_is_searched_exactly(points, monkeypatch):
    expected = neighbor_affinity(points, 7).toarray()
    monkeypatch.setattr(_spectral, "MAX_EXACT_CELLS", 50)
    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=Search))
    np.testing.assert_allclose(neighbor_affinity(points, 7).toarray(), expected, rtol=1e-5)


def test_inner_products_agree_with_a_dense_solver(rng, monkeypatch):
    """Rows are defined up to signs and rotations of equal eigenvalues; their products are not."""
    # four clouds that touch: three boundaries between them, then a gap in the eigenvalues
    centres = 3.5 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    affinity = neighbor_affinity(np.repeat(centres, 150, axis=0) + rng.normal(size=(600, 3)), 15)
    assert connected_components(affinity)[0] == 1
    A, d = affinity.toarray(), affinity.toarray().sum(1)
    values, vectors = np.linalg.eigh(A / np.sqrt(d[:, None] * d[None]))
    expected = vectors[:, :-5:-1] * values[:-5:-1] ** 2
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)

    def check(atol):
        rows, again = (spectral_rows(affinity, 4, seed=3) for _ in range(2))
        np.testing.assert_allclose(rows @ rows.T, expected @ expected.T, atol=atol)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
        np.testing.assert_array_equal(rows, again)

    check(1e-2)  # Lanczos
    fails = Mock(side_effect=ArpackNoConvergence("no", np.empty(0), np.empty((600, 0))))
    monkeypatch.setattr(_spectral, "eigsh", fails)
    check(1e-2)  # iterations where it does not converge
    assert fails.called
    monkeypatch.setattr(_spectral, "_MAX_LANCZOS_CELLS", 100)
    n_calls = fails.call_count
    check(1e-2)
    assert fails.call_count == n_calls
    monkeypatch.setattr(_spectral, "_MAX_DENSE_CELLS", 1000)
    check(1e-8)


def test_a_neighbour_graph_is_taken_in_place_of_an_embedding(z):
    affinity = neighbor_affinity(z, 15)
    labels = spectral_metacells(affinity, 12)
    assert adjusted_rand_score(labels, spectral_metacells(z, 12)) > 0.8
    assert np.unique(spectral_metacells(affinity, 60)).tolist() == list(range(60))
    lopsided = sparse.triu(affinity)  # each edge once: half the weight, the same graph
    np.testing.assert_array_equal(spectral_metacells(lopsided, 12), labels)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (sparse.csr_matrix((6, 5)), "a square matrix of weights"),
        (-sparse.eye(6, k=1), "none negative"),
        (sparse.eye(6), "a graph of at most 2 parts, one per metacell, found 6"),
    ],
)
def test_what_is_no_neighbour_graph_is_refused(graph, message):
    with pytest.raises(ValueError, match=message):
        spectral_metacells(graph, 2)
