import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from scmetaq.nn import fit_ridge


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 90)) + 5
    targets = values[:, :3] @ rng.normal(size=(3, 2)) + rng.normal(size=(60, 2))
    return values, targets, rng.uniform(0.2, 3, 60)


@pytest.fixture(scope="module")
def fitted(data):
    return fit_ridge(*map(torch.from_numpy, data))


def peer(values, targets, weight, penalty):
    """scikit-learn's, with the penalty of a fit to all cells, whose weights sum to one there."""
    return Ridge(penalty).fit(values, targets, sample_weight=weight)


def penalty_of(values, weight):
    weight = weight / weight.sum()
    centred = values - weight @ values
    return (weight @ centred**2).sum() / len(values)


def test_it_is_weighted_ridge_regression(data, fitted):
    values, targets, weight = data
    expected = peer(values, targets, weight / weight.sum(), penalty_of(values, weight))
    np.testing.assert_allclose(fitted.axes, expected.coef_.T, rtol=1e-8)
    np.testing.assert_allclose(fitted.offset, expected.intercept_, rtol=1e-7)


def test_cells_left_out_are_those_of_fits_without_them(data, fitted):
    values, targets, weight = data
    penalty, weight = penalty_of(values, weight), weight / weight.sum()
    for i in (0, 17, 59):
        others = np.arange(60) != i
        without = peer(values[others], targets[others], weight[others], penalty)
        np.testing.assert_allclose(fitted.left_out[i], without.predict(values[i : i + 1])[0])


def test_features_that_say_nothing_leave_the_mean():
    targets = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    found = fit_ridge(torch.ones(4, 3), targets, torch.ones(4))
    assert torch.equal(found.axes, torch.zeros(3, 1))
    assert found.offset.item() == pytest.approx(0.5)
