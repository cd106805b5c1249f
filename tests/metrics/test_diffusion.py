import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scmetaq.metrics import DiffusionMap, diffusion_compactness, diffusion_map, diffusion_separation
from scmetaq.metrics._diffusion import NoMapError, _grouped_components

METRICS = pytest.mark.parametrize("metric", [diffusion_compactness, diffusion_separation])


def dense_map(X, n_components, n_neighbors):
    """The same from dense matrices and the walk itself, which is not symmetric."""
    distance = np.sqrt(np.square(X[:, None] - X[None]).sum(axis=2))
    np.fill_diagonal(distance, np.inf)
    weights = np.zeros_like(distance)
    for i, row in enumerate(distance):
        nearest = np.argsort(row)[: n_neighbors - 1]
        weights[i, nearest] = np.exp(-row[nearest] / row[nearest[n_neighbors // 3 - 1]])
    kernel = weights + weights.T
    values, vectors = np.linalg.eig(kernel / kernel.sum(axis=1, keepdims=True))
    order = np.argsort(values.real)[::-1][1:n_components]
    values, vectors = values.real[order], vectors.real[:, order]
    vectors /= np.linalg.norm(vectors, axis=0)
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), range(n_components - 1)])
    return vectors * signs * values / (1 - values), values


@pytest.mark.parametrize(("n_components", "n_neighbors"), [(10, 30), (4, 12)])
def test_agrees_with_the_walk_on_a_dense_graph(cloud, n_components, n_neighbors):
    found = diffusion_map(cloud, n_components=n_components, n_neighbors=n_neighbors)
    components, eigenvalues = dense_map(cloud, n_components, n_neighbors)
    np.testing.assert_allclose(found.eigenvalues, eigenvalues, atol=1e-8)
    np.testing.assert_allclose(found.components, components, atol=1e-6 * np.abs(components).max())


def test_the_map_repeats_and_neither_order_scale_nor_twins_matter(cloud, rng):
    order = rng.permutation(len(cloud))
    found, again, other = (
        diffusion_map(X).components for X in (cloud, cloud, 7 * cloud[order] + 3)
    )
    np.testing.assert_array_equal(again, found)
    np.testing.assert_allclose(other, found[order], atol=1e-6)
    found = diffusion_map(np.repeat(cloud, 2, axis=0)).components
    np.testing.assert_allclose(found[::2], found[1::2], atol=1e-4 * np.abs(found).max())


def test_a_given_map_is_used_as_it_is(rng):
    given = DiffusionMap(rng.normal(size=(7, 2)), np.ones(2), np.array([0, 0, 1, 1, 1, 1, 0]))
    given.components[4] = np.nan
    with pytest.warns(UserWarning, match="2 pieces; 1 of 2 metacells have cells in several"):
        components, piece, groups = _grouped_components(given, [0, 0, 1, -1, 1, 1, 1])
    np.testing.assert_array_equal(components, given.components[[0, 1, 2, 5]])
    assert components.index.tolist() == [0, 0, 1, 1]
    assert piece.to_dict() == {0: 0, 1: 1}
    assert groups.n_grouped == 6


def test_each_piece_of_the_graph_has_a_map_of_its_own(cloud):
    """As of its cells alone, and shorter: a component has length one over all cells."""
    found = diffusion_map(np.concatenate([cloud, cloud[:100] + 1e3]))
    assert found.piece.tolist() == [0] * 300 + [1] * 100
    for cells, share in ((slice(300), 0.75), (slice(300, 400), 0.25)):
        alone = diffusion_map(cloud[: cells.stop - (cells.start or 0)])
        expected = alone.components * np.sqrt(share)
        tolerance = 1e-6 * np.abs(expected).max()
        np.testing.assert_allclose(found.components[cells], expected, atol=tolerance)
    np.testing.assert_allclose(found.eigenvalues, diffusion_map(cloud).eigenvalues, atol=1e-8)


def test_pieces_and_sets_of_few_cells_have_no_map(cloud):
    apart = np.concatenate([cloud, cloud[:8] + 1e3])
    found = diffusion_map(apart, n_neighbors=5).components
    assert np.isnan(found[300:]).all()
    with pytest.raises(NoMapError, match=r"pieces of at most 8 cells .* \(10\)\. Raise .* \(5\)"):
        diffusion_map(np.concatenate([apart[300:], apart[300:] + 1e3]), n_neighbors=5)
    match = r"`n_neighbors` \(30\) .* of `diffusion_map`, found 30\. Pass more"
    with pytest.raises(NoMapError, match=match):
        diffusion_map(cloud[:30])
    assert diffusion_map(cloud[:30], n_neighbors=15).components.shape == (30, 9)


@pytest.mark.parametrize(
    ("change", "words", "error", "match"),
    [
        (sparse.csr_matrix, {}, TypeError, "found a sparse matrix"),
        (lambda X: X[0], {}, TypeError, "with 1 dimensions"),
        (lambda X: X + 1j, {}, TypeError, "real numbers in `X`, found values of the type complex"),
        (lambda X: np.where(X[0, 0] == X, np.nan, X), {}, ValueError, "missing or huge ones in 1"),
        (lambda X: X, {"n_components": 1}, ValueError, "n_components to be at least 2, found 1"),
        (lambda X: X, {"n_components": 3.5}, TypeError, "n_components to be an int, found 3.5"),
        (lambda X: X, {"n_neighbors": 3}, ValueError, "n_neighbors to be at least 4, found 3"),
        (lambda X: X, {"n_neighbors": None}, TypeError, "n_neighbors to be an int, found None"),
    ],
)
def test_bad_embeddings_are_refused(cloud, change, words, error, match):
    with pytest.raises(error, match=match):
        diffusion_map(change(cloud), **words)


def test_compactness_is_mean_variance_and_separation_the_distance_of_means(cloud, of_cloud, rng):
    components = diffusion_map(cloud).components
    variances = [components[of_cloud == m].var(axis=0, ddof=1).mean() for m in range(20)]
    np.testing.assert_allclose(diffusion_compactness(cloud, of_cloud), [*variances, np.nan])
    means = np.array([components[of_cloud == m].mean(axis=0) for m in range(21)])
    distance = np.linalg.norm(means[:, None] - means[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    found = diffusion_separation(cloud, of_cloud)
    np.testing.assert_allclose(found, distance.min(axis=1), rtol=1e-9)
    space, both = diffusion_map(cloud), (of_cloud, rng.permutation(of_cloud))
    good, bad = (diffusion_compactness(space, a).mean() for a in both)
    assert good < 0.2 * bad
    good, bad = (diffusion_separation(space, a).drop(20).median() for a in both)
    assert good > 2 * bad


@METRICS
def test_agrees_with_seacells(of_seacells, metric):
    """``SEACells.evaluate``; compactness is NaN for the metacells of a single cell."""
    found = metric(of_seacells["embedding"], of_seacells["metacells"])
    expected = of_seacells[metric.__name__.removeprefix("diffusion_")]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (found > 0).sum() > 15


@METRICS
def test_a_map_computed_once_and_other_names_give_the_same(cloud, of_cloud, metric):
    expected = metric(cloud, of_cloud)
    assert (expected.name, expected.index.name) == (metric.__name__, "metacell")
    pd.testing.assert_series_equal(metric(diffusion_map(cloud), of_cloud), expected)
    names = pd.Series(of_cloud).map(lambda m: f"mc{m:02d}")
    np.testing.assert_allclose(metric(cloud, names), expected)


def test_cells_left_out_stay_in_the_map(cloud, of_cloud):
    """The space is that of all cells: dropping one metacell does not change the others."""
    without = np.where(of_cloud == 3, -1, of_cloud)
    pd.testing.assert_series_equal(
        diffusion_compactness(cloud, without), diffusion_compactness(cloud, of_cloud).drop(3)
    )
    found = diffusion_separation(cloud, np.where(of_cloud % 2 == 1, -1, of_cloud))
    assert (found >= diffusion_separation(cloud, of_cloud)[found.index]).all()
    with pytest.raises(ValueError, match=r"at least two metacells, found only \['all'\]"):
        diffusion_separation(cloud, ["all"] * 300)


def test_metacells_are_measured_within_their_piece_of_the_graph(cloud, of_cloud):
    """The nearest mean is one of the same piece; an only metacell is near to none."""
    apart = np.concatenate([cloud, cloud[:40] + 1e3, cloud[:40] + 2e3])
    assignment = np.concatenate([of_cloud, np.arange(40) // 20 + 30, np.full(40, 32)])
    space = diffusion_map(apart)
    found = diffusion_separation(space, assignment)
    alone = diffusion_separation(cloud, of_cloud) * np.sqrt(300 / 380)
    np.testing.assert_allclose(found[:21], alone, rtol=1e-4)
    means = [space.components[assignment == m].mean(0) for m in (30, 31)]
    np.testing.assert_allclose(found[[30, 31]], np.linalg.norm(means[0] - means[1]))
    assert found.index[found.isna()].tolist() == [32]
    assignment[299] = 32
    with pytest.warns(UserWarning, match="3 pieces; 1 of 24 metacells have cells in several"):
        compactness = diffusion_compactness(space, assignment)
    assert compactness[32] == pytest.approx(space.components[340:].var(0, ddof=1).mean())
