import numpy as np
import pytest
from scipy import sparse

from scmetaq.metrics import diffusion_map
from scmetaq.metrics._diffusion_map import DiffusionMap, NoDiffusionMapError, grouped_components


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


def test_order_of_cells_and_scale_of_the_embedding_do_not_matter(cloud, rng):
    order = rng.permutation(len(cloud))
    found = diffusion_map(7 * cloud[order] + 3).components
    np.testing.assert_allclose(found, diffusion_map(cloud).components[order], atol=1e-6)


def test_repeats_to_the_last_digit(cloud):
    first, second = diffusion_map(cloud), diffusion_map(cloud)
    np.testing.assert_array_equal(first.components, second.components)


def test_cells_in_the_same_place_are_fine(cloud):
    found = diffusion_map(np.repeat(cloud, 2, axis=0)).components
    np.testing.assert_allclose(found[::2], found[1::2], atol=1e-4 * np.abs(found).max())


def test_a_given_map_is_used_as_it_is(rng):
    given = DiffusionMap(rng.normal(size=(6, 2)), np.ones(2))
    given.components[4] = np.nan
    components, groups = grouped_components(given, [0, 0, 1, -1, 1, 1])
    np.testing.assert_array_equal(components, given.components[[0, 1, 2, 5]])
    assert components.index.tolist() == [0, 0, 1, 1]
    assert groups.n_grouped == 5


def test_small_pieces_are_left_out(cloud):
    apart = np.concatenate([cloud, cloud[:50] + 1e3])
    with pytest.warns(UserWarning, match=r"2 pieces, the largest without 50 of 350.*\(30\)"):
        found = diffusion_map(apart).components
    expected = diffusion_map(cloud).components
    np.testing.assert_allclose(found[:300], expected, atol=1e-6 * np.abs(expected).max())
    assert np.isnan(found[300:]).all()


def test_large_pieces_are_refused(cloud):
    apart = np.concatenate([cloud, cloud[:100] + 1e3])
    with pytest.raises(ValueError, match=r"2 pieces, the largest without 100 of 400.*\(30\)"):
        diffusion_map(apart)


def test_bad_embeddings_are_refused(cloud):
    with pytest.raises(TypeError, match="found a sparse matrix"):
        diffusion_map(sparse.csr_matrix(cloud))
    with pytest.raises(TypeError, match="found 1 dimensions"):
        diffusion_map(cloud[0])
    with pytest.raises(ValueError, match=r"`n_neighbors` \(30\).*found 30"):
        diffusion_map(cloud[:30])
    with pytest.raises(ValueError, match="`n_components` as a whole number of at least 2, found 1"):
        diffusion_map(cloud, n_components=1)
    with pytest.raises(TypeError, match="`n_components` as a whole number of .*, found 3.5"):
        diffusion_map(cloud, n_components=3.5)
    with pytest.raises(TypeError, match="`n_neighbors` as a whole number of at least 4, found 9.5"):
        diffusion_map(cloud, n_neighbors=9.5)
    with pytest.raises(TypeError, match="real numbers in `X`, found complex ones"):
        diffusion_map(cloud + 1j)
    cloud[0, 0] = np.nan
    with pytest.raises(ValueError, match="found NaN or infinity"):
        diffusion_map(cloud)


def test_few_cells_are_named_with_what_can_be_lowered(cloud):
    with pytest.raises(NoDiffusionMapError, match="of `diffusion_map`, found 30"):
        diffusion_map(cloud[:30])
    assert diffusion_map(cloud[:30], n_neighbors=15).components.shape == (30, 9)
