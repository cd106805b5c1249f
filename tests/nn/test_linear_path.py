import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from scmetaq.nn import Axes, CountBatch
from scmetaq.nn._count_batch import FeatureCoverage
from scmetaq.nn._linear_path import (
    AffineMap,
    FactorModel,
    FactorState,
    LinearViews,
    StateMap,
    StateRegression,
)

SELECTED = np.array([0, 3, 4, 7, 8, 12, 19])
ROOTED = np.array([1, 3, 5, 6, 7, 8, 19])


@pytest.fixture
def counts(rng):
    counts = rng.poisson(rng.gamma(1, 4, size=20), size=(80, 20)).astype(np.float32)
    counts[:, 0] += 1
    return counts


def transformed(counts, view):
    """What a view projects, in double precision."""
    per_10k = counts / counts.sum(1, keepdims=True).astype(float) * 1e4
    if view == "sqrt":
        return np.sqrt(per_10k[:, ROOTED])
    log = np.log1p(per_10k[:, SELECTED])
    if view == "log":
        return log
    return np.array([(row - row.mean()) / np.linalg.norm(row - row.mean()) for row in log])


def make():
    path = LinearViews(7, 4, n_scores=5)
    for view in (path.log, path.sqrt, path.profile):
        features = ROOTED if view is path.sqrt else SELECTED
        axes, offset = torch.randn(view.axes.shape), torch.randn(view.offset.shape)
        view.set_state(AffineMap(features, axes, offset))
    return path


def set_identity(axes, features):
    n = len(features)
    axes.set_state(AffineMap(features, torch.eye(n), torch.zeros(n)))


def test_views_give_the_scores_of_scikit_learns_pca_and_products_of_profiles_correlations(counts):
    path = make()
    expected = {}
    for name in ("log", "sqrt", "profile"):
        view = getattr(path, name)
        values = transformed(counts, name)
        pca = PCA(view.axes.shape[1]).fit(values)
        axes = pca.components_.T
        view.set_state(AffineMap(view.features, axes, pca.mean_ @ axes))
        expected[name] = pca.transform(values)
    scores, profile = path(CountBatch(torch.from_numpy(counts)))
    np.testing.assert_allclose(scores[:, :5], expected["log"], atol=1e-3)
    np.testing.assert_allclose(scores[:, 5:], expected["sqrt"], atol=1e-3)
    np.testing.assert_allclose(profile, expected["profile"], atol=1e-4)
    path = LinearViews(7, 7, n_scores=5)
    path.log.set_state(AffineMap(SELECTED, torch.zeros(7, 5), torch.zeros(5)))
    set_identity(path.profile, SELECTED)
    profile = path(CountBatch(torch.from_numpy(counts))).profile
    expected = np.corrcoef(transformed(counts, "log"))
    np.testing.assert_allclose(profile @ profile.T, expected, atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 1e-3, 1.0])
def test_profiles_are_never_longer_than_one_and_zero_if_flat(noise):
    path = LinearViews(30, 30, n_scores=2)
    set_identity(path.profile, range(30))
    generator = torch.Generator().manual_seed(0)
    counts = 5_000 * torch.ones(4, 30) * (1 + noise * torch.rand(4, 30, generator=generator))
    assert path(CountBatch(counts.round())).profile.norm(dim=1).max() < 1 + 1e-5
    assert not path(CountBatch(torch.zeros(1, 30))).profile.any()


def test_maps_are_affine_saved_and_do_not_learn(counts):
    axes = Axes(2, 1)
    axes.set_state(AffineMap([0, 1], [[2.0], [3.0]], [1.0]))
    assert axes(torch.tensor([[1.0, 10.0]])).tolist() == [[31.0]]
    path, other = make(), LinearViews(7, 4, n_scores=5)
    assert not any(parameter.requires_grad for parameter in path.parameters())
    other.load_state_dict(path.state_dict())
    batch = CountBatch(torch.from_numpy(counts))
    for found, expected in zip(other(batch), path(batch), strict=True):
        assert torch.equal(found, expected)


def test_a_state_is_affine_in_scores_and_random_features(rng):
    state = [rng.normal(size=shape).astype(np.float32) for shape in [(6, 9), (9,), (15, 2), (2,)]]
    fitted, other = StateMap(6, 2), StateMap(6, 2)
    fitted.set_state(StateRegression(*state))
    other.load_state_dict(fitted.state_dict())
    x = rng.normal(size=(5, 6)).astype(np.float32)
    directions, shift, coefficients, intercept = state
    features = np.hstack([x, np.maximum(x @ directions + shift, 0)])
    for module in (fitted, other):
        assert not list(module.parameters())
        found = module(torch.from_numpy(x))
        np.testing.assert_allclose(found, features @ coefficients + intercept, atol=1e-4)


def simulated(n=400, n_features=30, n_factors=3, seed=0):
    """Values of a factor model, and the model."""
    generator = torch.Generator().manual_seed(seed)
    loadings = torch.randn(n_factors, n_features, generator=generator)
    factors = torch.randn(n, n_factors, generator=generator)
    noise = 0.3 * torch.randn(n, n_features, generator=generator)
    mean = torch.randn(n_features, generator=generator)
    model = FactorModel(n_features, n_factors)
    noise_variance = torch.full((n_features,), 0.09)
    model.set_state(FactorState(mean, loadings, noise_variance, torch.ones(n_factors)))
    return mean + factors @ loadings + noise, model


def test_it_is_the_conditional_mean_of_a_normal_distribution():
    values, model = simulated()
    is_missing = torch.arange(30) % 3 == 0
    covariance = model.loadings.T @ model.loadings + torch.diag(model.noise)
    a, b = is_missing, ~is_missing
    regression = torch.linalg.solve(covariance[b][:, b], covariance[b][:, a])
    expected = model.mean[a] + (values - model.mean)[:, b] @ regression
    filled = model(values, is_missing)
    torch.testing.assert_close(filled[:, a], expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(filled[:, b], values[:, b])


def test_what_is_missing_is_found_again_and_without_anything_known_there_are_means():
    values, model = simulated()
    is_missing = torch.arange(30) < 10
    error = (model(values, is_missing) - values)[:, :10].square().mean()
    by_mean = (model.mean - values)[:, :10].square().mean()
    assert error < 0.1 * by_mean
    values, model = simulated(5)
    filled = model(values, torch.ones(30, dtype=torch.bool))
    torch.testing.assert_close(filled, model.mean.expand(5, -1))


def test_axes_that_do_not_exist_do_no_harm():
    """Small samples have fewer axes than there is room for."""
    values, model = simulated()
    wide = FactorModel(30, 5)
    loadings, prior = torch.zeros(5, 30), torch.full((5,), 1e-10)
    loadings[:3], prior[:3] = model.loadings, 1.0
    wide.set_state(FactorState(model.mean, loadings, model.noise, prior))
    is_missing = torch.arange(30) < 10
    torch.testing.assert_close(wide(values, is_missing), model(values, is_missing))


def test_both_views_fill_in_missing_features(counts):
    path, coverage = make(), FeatureCoverage()
    coverage.set_rate(torch.ones(20))
    coverage.set_missing(torch.arange(20) == 8)
    batch, expected = coverage.batch(torch.from_numpy(counts)), []
    for view, factors, values in (
        (path.log, path.log_factors, batch.per_10k.log1p()),
        (path.sqrt, path.sqrt_factors, batch.per_10k.sqrt()),
    ):
        mean = torch.rand(7)
        factors.set_state(FactorState(mean, torch.zeros(5, 7), torch.ones(7), torch.ones(5)))
        is_missing = view.features == 8
        filled = batch.dense(view.features, values).masked_fill(is_missing, mean[is_missing].item())
        expected.append(view(filled))
    torch.testing.assert_close(path(batch, coverage).scores, torch.cat(expected, 1))
