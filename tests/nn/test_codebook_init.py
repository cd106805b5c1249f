import numpy as np
import pytest
from sklearn.cluster import KMeans

from scmetaq.nn import _codebook_init, initial_codes

INITS = ["kmeans", "random", "geometric"]


@pytest.fixture
def z(rng):
    return rng.normal(size=(300, 6)).astype(np.float32) + 5 * rng.integers(0, 3, size=(300, 1))


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("n_codes", [2, 17, 150])
def test_as_many_distinct_codes_as_asked_for(z, init, n_codes):
    codes = initial_codes(z, n_codes, init)
    assert codes.shape == (n_codes, 6)
    assert len(np.unique(codes, axis=0)) == n_codes


@pytest.mark.parametrize("init", INITS)
def test_one_seed_one_result(z, init):
    first, again, other = (initial_codes(z, 17, init, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("init", ["random", "geometric"])
def test_codes_are_cells(z, init):
    cells = {tuple(row) for row in z}
    assert all(tuple(code) in cells for code in initial_codes(z, 17, init))


def test_kmeans_codes_are_those_of_scikit_learn(z):
    expected = KMeans(17, n_init=1, random_state=5).fit(z).cluster_centers_
    np.testing.assert_allclose(initial_codes(z, 17, "kmeans", seed=5), expected, rtol=1e-6)


def test_kmeans_of_many_cells_goes_by_mini_batches(z, monkeypatch):
    monkeypatch.setattr(_codebook_init, "_MAX_CELLS_FULL_KMEANS", 100)
    codes = initial_codes(z, 3, "kmeans")
    full = KMeans(3, n_init=5, random_state=0).fit(z).cluster_centers_
    distance = np.linalg.norm(codes[:, None] - full[None], axis=2)
    assert sorted(distance.argmin(1)) == [0, 1, 2]
    assert distance.min(1).max() < 1


@pytest.mark.parametrize("init", INITS)
def test_the_global_random_state_is_left_alone(z, init):
    np.random.seed(42)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    initial_codes(z, 17, init)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_geometric_sketch_covers_rare_cells(rng):
    crowd, rare = rng.normal(size=(990, 2)), rng.normal(size=(10, 2)) + 50
    z = np.vstack([crowd, rare])
    codes = initial_codes(z, 20, "geometric")
    assert (codes[:, 0] > 25).sum() > 1  # at random: 0.2 expected
