import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from scmetaq.data import _reference
from scmetaq.data._reference import (
    N_SCORES,
    _fit_factors,
    denoised_states,
    fit_reference,
    fit_scaling,
    fit_state_map,
    select_features,
    size_factor,
)


def log_by_scanpy(counts, target_sum=1e4):
    adata = AnnData(counts.copy())
    sc.pp.normalize_total(adata, target_sum=target_sum)
    sc.pp.log1p(adata)
    return adata


@pytest.fixture(scope="module")
def counts(blood):
    return blood.X


@pytest.fixture(scope="module")
def features(counts):
    return select_features(counts, 200, by_variance=True)


@pytest.fixture(scope="module")
def reference(counts, features):
    return fit_reference(counts, features, n_components=30)


def highly_variable_by_scanpy(counts, n_top):
    log = log_by_scanpy(counts)
    sc.pp.highly_variable_genes(log, n_top_genes=n_top)
    return np.flatnonzero(log.var["highly_variable"])


@pytest.mark.parametrize("n_top", [50, 200, 499])
def test_features_are_scanpys_highly_variable_genes(counts, n_top):
    found = select_features(counts, n_top, by_variance=True)
    np.testing.assert_array_equal(found, highly_variable_by_scanpy(counts, n_top))
    assert found.dtype == np.int64


@pytest.mark.parametrize("by_variance", [True, False])
@pytest.mark.parametrize("n_top", [500, 3_000])
def test_all_features_are_kept_where_there_are_no_more(counts, by_variance, n_top):
    found = select_features(counts, n_top, by_variance=by_variance)
    np.testing.assert_array_equal(found, np.arange(500))


def test_peaks_are_those_detected_in_most_cells_and_silent_features_come_last(counts):
    found = select_features(counts, 100, by_variance=False)
    n_cells = (counts.toarray() > 0).sum(0)
    left_out = np.setdiff1d(np.arange(500), found)
    assert (np.diff(found) > 0).all()
    assert n_cells[found].min() >= n_cells[left_out].max()
    padded = sparse.hstack([sparse.csr_matrix((400, 40)), counts], "csr", dtype=np.float32)
    for by_variance in (True, False):
        assert select_features(padded, 300, by_variance=by_variance).min() >= 40


def test_size_factor_is_the_library_over_ten_thousand(counts):
    expected = counts.toarray().sum(1, keepdims=True) / 1e4
    np.testing.assert_allclose(size_factor(counts), expected, rtol=1e-6)
    np.testing.assert_allclose(size_factor(counts.toarray()), expected, rtol=1e-6)
    assert size_factor(sparse.csr_matrix((1, 3))).item() == pytest.approx(1e-4)


def unit_profiles(log):
    """Rows centred and scaled to unit length."""
    centred = log - log.mean(1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def test_scaling_is_that_of_scanpys_log_counts_and_its_rate_reproduces_the_total(
    reference, counts, features
):
    log = log_by_scanpy(counts).X[:, features].toarray()
    total = counts.toarray().sum(0, dtype=np.float64)
    for found in (reference.scaling, fit_scaling(counts, features)):
        np.testing.assert_allclose(found.mean, log.mean(0), rtol=1e-4)
        np.testing.assert_allclose(found.scale, log.std(0), rtol=1e-4)
        rate = found.rate * size_factor(counts).sum(dtype=np.float64)
        np.testing.assert_allclose(rate, total, rtol=1e-3)


def test_axes_have_their_shapes_and_both_views_together_unit_total_variance(reference, counts):
    assert reference.scaling.mean.shape == reference.scaling.scale.shape == (200,)
    for name, n_axes in (("profile", 30), ("log", N_SCORES), ("sqrt", N_SCORES)):
        part = getattr(reference, name)
        assert part.axes.shape == (200, n_axes)
        assert part.offset.shape == (n_axes,)
        assert np.isfinite(part.axes).all()
    scores = scores_of(reference, counts)
    np.testing.assert_allclose(scores.mean(0), 0, atol=1e-3)
    each = [scores[:, :N_SCORES].var(0).sum(), scores[:, N_SCORES:].var(0).sum()]
    np.testing.assert_allclose(each, 0.5, rtol=1e-2)


def test_profile_scores_have_unit_total_variance_and_are_uncorrelated(reference, counts, features):
    log = log_by_scanpy(counts).X[:, features].toarray()
    scores = reference.profile(unit_profiles(log))
    np.testing.assert_allclose(scores.mean(0), 0, atol=1e-4)
    assert scores.var(0, ddof=1).sum() == pytest.approx(1, rel=1e-3)
    covariance = np.cov(scores.T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3)
    assert (np.diff(np.diag(covariance)[:10]) < 0).all()


def scores_of(reference, counts):
    rate = counts.toarray() / size_factor(counts)
    log, root = reference.log, reference.sqrt
    return np.hstack([log(np.log1p(rate[:, log.features])), root(np.sqrt(rate[:, root.features]))])


def test_unreliable_axes_weigh_little_and_roots_are_of_what_varies(reference, counts, features):
    """Noise axes have less of the variance than they have in plain PCA of the same values."""
    log = log_by_scanpy(counts).X[:, features].toarray()
    plain = PCA(N_SCORES, random_state=0).fit(log / np.sqrt(log.std(0)))
    share = scores_of(reference, counts)[:, :N_SCORES].var(0)
    plain_share = plain.explained_variance_ / plain.explained_variance_.sum()
    assert share[10:].sum() / share.sum() < 0.5 * plain_share[10:].sum()
    root = np.sqrt(counts.toarray() / size_factor(counts))
    expected = np.sort(np.argsort(-root.var(0), kind="stable")[:200])
    np.testing.assert_array_equal(reference.sqrt.features, expected)


def test_one_seed_gives_one_reference_and_halves_and_counts_are_not_changed(counts, features):
    kept = counts.copy()
    first, again = (fit_reference(counts, features, n_components=30, seed=1) for _ in range(2))
    for name in ("profile", "log", "sqrt"):
        np.testing.assert_array_equal(getattr(first, name).axes, getattr(again, name).axes)
    np.testing.assert_array_equal(counts.data, kept.data)
    np.testing.assert_array_equal(counts.indices, kept.indices)
    half, rest = _reference._halves(counts, 0)
    assert (half + rest != counts).nnz == 0
    assert (half.data % 1 == 0).all()
    assert (half.data <= counts.data).all()
    assert half.sum() == pytest.approx(counts.sum() / 2, rel=0.02)


@pytest.mark.parametrize(("n_cells", "n_features"), [(5, 500), (60, 7), (3, 2), (400, 1)])
def test_axes_that_the_sample_is_too_small_for_are_zero(counts, n_cells, n_features):
    few = counts[:n_cells, :n_features] + sparse.csr_matrix(np.eye(n_cells, n_features))
    few = sparse.csr_matrix(few, dtype=np.float32)
    reference = fit_reference(few, np.arange(n_features), n_components=30)
    n_axes = max(1, min(n_cells, n_features) - 1)
    assert reference.profile.axes.shape == (n_features, 30)
    assert (reference.profile.axes[:, n_axes:] == 0).all()
    assert all(np.isfinite(view.axes).all() for view in (reference.log, reference.sqrt))


@pytest.fixture
def scores(rng):
    """Noisy scores of 300 cells and what they would be without noise."""
    truth = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 20))
    return truth + 0.5 * rng.normal(size=(300, 20)), truth


def test_states_have_unit_total_variance_and_those_of_single_cells_are_predicted(scores):
    noisy, truth = (of.astype(np.float32) for of in scores)
    states = denoised_states(truth, 10)
    assert states.shape == (300, 10)
    assert states.var(0).sum() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(states.mean(0), 0, atol=1e-5)
    expected = PCA(4).fit_transform(truth) / np.sqrt(truth.var(0).sum())
    np.testing.assert_allclose(np.abs(states[:, :4]), np.abs(expected), atol=1e-4)
    assert denoised_states(truth, 64).shape == (300, 64)
    assert (denoised_states(truth, 64)[:, 20:] == 0).all()
    fitted = fit_state_map(noisy, states, n_random=50, seed=0)
    hidden = np.maximum(noisy @ fitted.directions + fitted.shift, 0)
    read = np.hstack([noisy, hidden])
    found = read @ fitted.coefficients + fitted.intercept
    expected = Ridge(alpha=0.3).fit(read, states).predict(read)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    linear = Ridge(alpha=0.3).fit(noisy, states).predict(noisy)
    assert np.square(found - states).sum() < np.square(linear - states).sum()
    again = fit_state_map(noisy, states, n_random=50, seed=0)
    assert all(np.array_equal(*pair) for pair in zip(fitted, again, strict=True))


def test_reliability_is_low_for_noise(rng):
    state = rng.gamma(0.5, 4.0, size=(3, 40))[np.arange(200) % 3]
    noise = np.full((200, 40), state.mean())
    drawn = [rng.poisson(rate + 0.1).astype(np.float32) for rate in (state, noise)]
    of_state, of_noise = (
        fit_reference(sparse.csr_matrix(of), np.arange(40), n_components=5).reliability
        for of in drawn
    )
    assert of_state > 0.5
    assert of_noise < 0.25


def test_factors_are_the_least_squares_regression_on_scores(rng):
    values = sparse.random(200, 12, 0.4, "csr", random_state=0)
    scores = np.linalg.qr(rng.normal(size=(200, 3)))[0] * [5, 3, 1] + [1, 0, -2]
    found = _fit_factors(values, scores)
    dense = values.toarray()
    centred = scores - scores.mean(0)
    loadings, rest, *_ = np.linalg.lstsq(centred, dense - dense.mean(0), rcond=None)
    np.testing.assert_allclose(found.mean, dense.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.loadings, loadings, atol=1e-4)
    np.testing.assert_allclose(found.noise, np.maximum(rest / 200, 1e-4), rtol=1e-3)
    np.testing.assert_allclose(found.prior, centred.var(0), rtol=1e-5)


def test_constant_features_and_empty_axes(rng):
    values = sparse.csr_matrix(np.hstack([np.zeros((20, 2)), rng.poisson(2.0, (20, 3))]))
    found = _fit_factors(values, np.hstack([rng.normal(size=(20, 1)), np.zeros((20, 2))]))
    assert all(np.isfinite(part).all() for part in found)
    assert (found.noise > 0).all()
    assert (found.prior > 0).all()
    assert not found.loadings[:, :2].any()
    found = fit_scaling(sparse.csr_matrix(np.eye(3, 4, dtype=np.float32)), np.array([3]))
    assert found.scale[0] > 0
