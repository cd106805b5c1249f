import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from scmetaq.data._sparse_pca import kept_share, sparse_pca


def draw(rng, n_cells=300, n_features=120):
    """Sparse values with a few strong directions."""
    rate = np.exp(rng.normal(size=(n_cells, 4)) @ rng.normal(size=(4, n_features)) * 0.7 - 1)
    return np.log1p(rng.poisson(rate)).astype(np.float32)


@pytest.mark.parametrize(
    ("n_cells", "n_features", "n_axes"), [(300, 120, 4), (40, 12, 8), (12, 40, 8), (30, 30, 8)]
)
@pytest.mark.parametrize("shift", [False, True])
def test_strong_axes_and_all_of_small_matrices_are_those_of_scikit_learn(
    rng, n_cells, n_features, n_axes, shift
):
    dense = draw(rng, n_cells, n_features)
    row_shift = rng.normal(size=n_cells).astype(np.float32) * shift
    found = sparse_pca(sparse.csr_matrix(dense), n_axes, row_shift=row_shift if shift else None)
    expected = PCA(n_axes, svd_solver="full").fit(dense - row_shift[:, None])
    np.testing.assert_allclose(found.variance, expected.explained_variance_, rtol=1e-3)
    np.testing.assert_allclose(found.mean, expected.mean_, atol=1e-5)
    cosines = np.abs((found.components * expected.components_).sum(1))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)


def test_axes_are_orthonormal_and_of_one_seed_and_sign_and_the_matrix_stays(rng):
    axes = sparse_pca(sparse.csr_matrix(draw(rng)), 30).components
    np.testing.assert_allclose(axes @ axes.T, np.eye(30), atol=1e-4)
    values = sparse.csr_matrix(draw(rng))
    first, again = (sparse_pca(values, 6, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.components, again.components)
    other = sparse_pca(values, 6, seed=2)
    np.testing.assert_allclose(first.components[:4], other.components[:4], atol=1e-2)
    kept = values.copy()
    sparse_pca(values, 6, row_shift=np.ones(300, np.float32))
    np.testing.assert_array_equal(values.toarray(), kept.toarray())


@pytest.mark.parametrize(("n_cells", "n_features"), [(5, 100), (100, 5), (2, 2)])
def test_at_most_as_many_axes_as_there_are(rng, n_cells, n_features):
    found = sparse_pca(sparse.csr_matrix(draw(rng, n_cells, n_features)), 50)
    assert found.components.shape == (min(n_cells, n_features) - 1, n_features)


def test_scores_of_cells_that_axes_are_fitted_without_shrink_as_estimated(rng):
    """Three strong axes and one of noise, each cell left out in turn."""
    n_cells, n_features = 120, 400
    loadings = np.linalg.qr(rng.normal(size=(n_features, 3)))[0] * [60, 30, 12]
    values = rng.normal(size=(n_cells, 3)) @ loadings.T + rng.normal(size=(n_cells, n_features))
    values -= values.mean(0)
    fitted = PCA(4).fit(values)
    own, new = fitted.transform(values), np.empty((n_cells, 4))
    for i in range(n_cells):
        others = np.delete(values, i, 0)
        axes = np.linalg.svd(others, full_matrices=False)[2][:4]
        new[i] = values[i] @ axes.T * np.sign((axes * fitted.components_).sum(1))
    slope = (own * new).sum(0) / (own**2).sum(0)
    variance = fitted.explained_variance_
    found = kept_share(variance, values.var(0).sum(), values.shape)
    np.testing.assert_allclose(found[:3], slope[:3], atol=0.05)
    assert found[3] < 0.5  # an axis of noise
    many = kept_share(variance, values.var(0).sum(), (100_000, n_features))
    assert (many > 0.99).all()
