import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence

from scmetaq.tl import _spectral_rows
from scmetaq.tl._neighbor_affinity import neighbor_affinity
from scmetaq.tl._spectral_rows import spectral_rows


@pytest.fixture
def affinity(rng):
    """Four clouds that touch: three boundaries between them, then a gap in the eigenvalues."""
    centres = 3.5 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    affinity = neighbor_affinity(np.repeat(centres, 150, axis=0) + rng.normal(size=(600, 3)), 15)
    assert connected_components(affinity)[0] == 1
    return affinity


def rows_by_numpy(affinity, n, t):
    A = affinity.toarray()
    d = A.sum(1)
    values, vectors = np.linalg.eigh(A / np.sqrt(d[:, None] * d[None]))
    rows = vectors[:, ::-1][:, :n] * values[::-1][:n] ** t
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("n_steps", [0, 2])
def test_inner_products_agree_with_a_dense_solver(affinity, n_steps, monkeypatch):
    """Rows are defined up to signs and rotations of equal eigenvalues; their products are not."""
    expected = rows_by_numpy(affinity, 4, n_steps)
    products = expected @ expected.T
    by_lanczos = spectral_rows(affinity, 4, n_steps=n_steps)
    np.testing.assert_allclose(by_lanczos @ by_lanczos.T, products, atol=1e-2)
    monkeypatch.setattr(_spectral_rows, "_MAX_LANCZOS_CELLS", 100)
    iterated = spectral_rows(affinity, 4, n_steps=n_steps)
    np.testing.assert_allclose(iterated @ iterated.T, products, atol=1e-2)
    monkeypatch.setattr(_spectral_rows, "_MAX_DENSE_CELLS", 1000)
    dense = spectral_rows(affinity, 4, n_steps=n_steps)
    np.testing.assert_allclose(dense @ dense.T, products, atol=1e-8)


def test_rows_have_length_one_and_follow_the_seed(affinity):
    rows = spectral_rows(affinity, 10, n_steps=2, seed=3)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    np.testing.assert_array_equal(rows, spectral_rows(affinity, 10, n_steps=2, seed=3))


def test_iterates_where_lanczos_does_not_converge(affinity, monkeypatch):
    def fails(*args, **kwargs):
        raise ArpackNoConvergence("no convergence", np.empty(0), np.empty((600, 0)))

    expected = rows_by_numpy(affinity, 4, 2)
    monkeypatch.setattr(_spectral_rows, "eigsh", fails)
    rows = spectral_rows(affinity, 4, n_steps=2)
    np.testing.assert_allclose(rows @ rows.T, expected @ expected.T, atol=1e-2)
