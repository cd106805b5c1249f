import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.cluster import kmeans_plusplus as reference_plusplus

from scmetaq.nn import initial_codes, kmeans_plusplus

INITS = ["kmeans", "random", "geometric"]


@pytest.fixture
def z(rng):
    cells = rng.normal(size=(300, 6)) + 5 * rng.integers(0, 3, size=(300, 1))
    return torch.from_numpy(cells.astype(np.float32))


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
    cells = {tuple(row) for row in z.tolist()}
    assert all(tuple(code) in cells for code in initial_codes(z, 17, init).tolist())


def test_kmeans_codes_are_those_of_scikit_learn(z):
    z = z.double()
    expected = KMeans(17, n_init=1, random_state=5).fit(z.numpy()).cluster_centers_
    np.testing.assert_allclose(initial_codes(z, 17, "kmeans", seed=5), expected, rtol=1e-6)


@pytest.mark.parametrize("n_codes", [1, 2, 17, 60])
def test_kmeans_plusplus_chooses_the_cells_that_scikit_learn_chooses(z, n_codes):
    _, expected = reference_plusplus(
        z.double().numpy(), n_codes, random_state=np.random.RandomState(3)
    )
    chosen = kmeans_plusplus(z.double(), n_codes, seed=3)
    np.testing.assert_array_equal(chosen, expected)


def test_kmeans_plusplus_in_single_precision_leaves_out_no_far_group(z):
    chosen = z[kmeans_plusplus(z, 3, seed=0)]
    assert sorted((chosen.mean(1) / 5).round().tolist()) == [0, 1, 2]


def test_kmeans_plusplus_copes_with_fewer_distinct_cells_than_codes():
    z = torch.tensor([[-1.0], [1.0]]).repeat(5, 1)
    chosen = kmeans_plusplus(z, 4, seed=0)
    assert set(z[chosen, 0].tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("init", INITS)
def test_the_global_random_state_is_left_alone(z, init):
    np.random.seed(42)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    initial_codes(z, 17, init)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_geometric_sketch_covers_rare_cells(rng):
    crowd, rare = rng.normal(size=(990, 2)), rng.normal(size=(10, 2)) + 50
    z = torch.from_numpy(np.vstack([crowd, rare]))
    codes = initial_codes(z, 20, "geometric")
    assert (codes[:, 0] > 25).sum() > 1  # at random: 0.2 expected
