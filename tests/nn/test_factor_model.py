import torch

from scmetaq.nn import FactorModel


def simulated(n=400, n_features=30, n_factors=3, seed=0):
    """Values of a factor model, and the model."""
    generator = torch.Generator().manual_seed(seed)
    loadings = torch.randn(n_factors, n_features, generator=generator)
    factors = torch.randn(n, n_factors, generator=generator)
    noise = 0.3 * torch.randn(n, n_features, generator=generator)
    mean = torch.randn(n_features, generator=generator)
    model = FactorModel(n_features, n_factors)
    variances = {"noise": torch.full((n_features,), 0.09), "prior": torch.ones(n_factors)}
    model.set_factors(mean, loadings, **variances)
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


def test_what_is_missing_is_found_again():
    values, model = simulated()
    is_missing = torch.arange(30) < 10
    error = (model(values, is_missing) - values)[:, :10].square().mean()
    by_mean = (model.mean - values)[:, :10].square().mean()
    assert error < 0.1 * by_mean


def test_without_anything_known_there_are_means():
    values, model = simulated(5)
    filled = model(values, torch.ones(30, dtype=torch.bool))
    torch.testing.assert_close(filled, model.mean.expand(5, -1))


def test_axes_that_do_not_exist_do_no_harm():
    """Small samples have fewer axes than there is room for."""
    values, model = simulated()
    wide = FactorModel(30, 5)
    loadings, prior = torch.zeros(5, 30), torch.full((5,), 1e-10)
    loadings[:3], prior[:3] = model.loadings, 1.0
    wide.set_factors(model.mean, loadings, noise=model.noise, prior=prior)
    is_missing = torch.arange(30) < 10
    torch.testing.assert_close(wide(values, is_missing), model(values, is_missing))
