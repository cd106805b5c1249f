import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.datasets import make_circles
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from scmetaq.metrics import purity
from scmetaq.tl import _spectral_metacells, spectral_metacells
from scmetaq.tl._spectral_metacells import _fill, _shares


@pytest.fixture(scope="module")
def z():
    """500 cells in five clouds that touch."""
    rng = np.random.default_rng(0)
    return np.repeat(4 * rng.normal(size=(5, 6)), 100, axis=0) + rng.normal(size=(500, 6))


@pytest.mark.parametrize("n_metacells", [2, 7, 60, 499])
def test_every_metacell_has_cells(z, n_metacells):
    labels = spectral_metacells(z, n_metacells)
    assert labels.shape == (500,)
    assert labels.dtype == np.int64
    assert np.unique(labels).tolist() == list(range(n_metacells))


def test_order_of_cells_does_not_matter_and_the_seed_decides(z):
    order = np.random.default_rng(1).permutation(len(z))
    labels = spectral_metacells(z, 20, seed=4)
    np.testing.assert_array_equal(spectral_metacells(z[order], 20, seed=4), labels[order])
    np.testing.assert_array_equal(spectral_metacells(z.tolist(), 20, seed=4), labels)


def test_input_is_not_changed(z):
    before = z.copy()
    spectral_metacells(z, 5)
    np.testing.assert_array_equal(z, before)


def test_finds_groups_that_are_no_clouds():
    z, ring = make_circles(600, factor=0.3, noise=0.04, random_state=0)
    assert adjusted_rand_score(ring, spectral_metacells(z, 2, n_neighbors=8)) == 1
    by_kmeans = KMeans(2, n_init=5, random_state=0).fit_predict(z)
    assert adjusted_rand_score(ring, by_kmeans) < 0.1


def test_no_metacell_spans_parts_of_the_graph(z):
    far = np.vstack([z, z[:30] + 1000, z[:100] - 1000])
    labels = spectral_metacells(far, 21)
    parts = [set(labels[:500]), set(labels[500:530]), set(labels[530:])]
    assert sum(len(part) for part in parts) == 21
    assert set.union(*parts) == set(range(21))
    assert len(parts[0]) > 3 * len(parts[2]) > 3 * len(parts[1])


def test_more_parts_than_metacells():
    centres = 1000 * np.arange(6)[:, None] * np.ones(2)
    z = np.repeat(centres, 20, axis=0) + np.random.default_rng(0).normal(size=(120, 2))
    labels = spectral_metacells(z, 3)
    assert len(np.unique(labels)) == 3
    assert all(len(set(labels[20 * i : 20 * i + 20])) == 1 for i in range(6))


def test_duplicates_are_grouped_too():
    assert len(np.unique(spectral_metacells(np.zeros((50, 3)), 7))) == 7
    z = np.repeat(np.random.default_rng(0).normal(size=(8, 3)), 40, axis=0)
    labels = spectral_metacells(z, 8)
    assert all(len(set(labels[40 * i : 40 * i + 40])) == 1 for i in range(8))
    assert len(np.unique(spectral_metacells(z, 33))) == 33


def test_few_eigenvectors_for_many_metacells(monkeypatch):
    asked, one_cloud = [], np.random.default_rng(0).normal(size=(500, 4))
    rows_of = _spectral_metacells.spectral_rows

    def spy(affinity, n_vectors, **kwargs):
        asked.append(n_vectors)
        return rows_of(affinity, n_vectors, **kwargs)

    monkeypatch.setattr(_spectral_metacells, "spectral_rows", spy)
    spectral_metacells(one_cloud, 12)
    spectral_metacells(one_cloud, 150)
    assert asked == [12, 100]


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


def test_shares_follow_sizes():
    assert _shares(np.array([90, 10]), 10).tolist() == [9, 1]
    assert _shares(np.array([1000, 16, 16]), 10).tolist() == [8, 1, 1]
    assert (_shares(np.array([3, 3, 4]), 9) <= [3, 3, 4]).all()


def test_largest_groups_are_halved():
    rows = np.arange(10.0)[:, None]
    labels = _fill(rows, np.array([0] * 8 + [1] * 2), 4)
    assert sorted(np.bincount(labels)) == [2, 2, 2, 4]
    assert all(np.ptp(np.flatnonzero(labels == i)) < 4 for i in range(4))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"z": np.zeros(5)}, ValueError, r"shape \(n_cells, d\).*found shape \(5,\)"),
        ({"z": np.zeros((5, 0))}, ValueError, r"found shape \(5, 0\)"),
        ({"z": np.array([[0.0], [np.nan], [np.inf]])}, ValueError, "in 2 of 3 cells"),
        ({"z": np.array([[0.0], [1e200], [1.0]])}, ValueError, "or huge ones in 1 of 3 cells"),
        ({"z": np.ones((9, 2), dtype=complex)}, TypeError, "real numbers, found complex ones"),
        ({"z": sparse.eye_array(9)}, TypeError, "dense array, found a sparse matrix"),
        ({"z": [["a"], ["b"]]}, TypeError, "array of numbers"),
        ({"n_metacells": 1}, ValueError, "at least 2 and less than the 500 cells, found 1"),
        ({"n_metacells": 500}, ValueError, "less than the 500 cells, found 500"),
        ({"n_metacells": 2.5}, TypeError, "`n_metacells` as an integer, found 2.5"),
        ({"n_neighbors": 0}, ValueError, "`n_neighbors` of at least 1, found 0"),
        ({"n_neighbors": True}, TypeError, "`n_neighbors` as an integer, found True"),
    ],
)
def test_bad_input_is_named(z, change, error, message):
    arguments = {"z": z, "n_metacells": 5, **change}
    with pytest.raises(error, match=message):
        spectral_metacells(arguments.pop("z"), arguments.pop("n_metacells"), **arguments)
