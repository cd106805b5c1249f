import numpy as np
import torch
from scipy.spatial.distance import cdist

from scmetaq.nn import squared_distances
from scmetaq.nn._distances import distances_without, typical_distances


def rows(n, seed=0):
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed)).double()


def test_squared_distances_agree_with_scipy():
    a, b = rows(30), rows(20, seed=2)
    np.testing.assert_allclose(squared_distances(a, b), cdist(a, b, "sqeuclidean"), atol=1e-12)
    assert (squared_distances(a, a) >= 0).all()


def test_distances_are_to_the_mean_of_the_other_cells():
    z, assignment = rows(21), torch.arange(21) % 4
    assignment[-1] = 4  # alone
    codes = torch.stack([z[assignment == k].mean(0) for k in range(5)])
    found = distances_without(z, codes, assignment)
    for i in range(20):
        others = (assignment == assignment[i]) & (torch.arange(21) != i)
        expected = (z[i] - z[others].mean(0)).square().sum()
        np.testing.assert_allclose(found[i], expected, rtol=1e-10)
    assert found[-1] == torch.inf


def test_typical_distances_are_medians_drawn_to_that_of_all():
    distance = torch.tensor([1.0, 2.0, 9.0, 4.0, 4.0])
    assignment = torch.tensor([2, 2, 2, 0, 0])
    found = typical_distances(distance, assignment, 3)
    overall = 4.0
    expected = [(2 * 4 + 10 * overall) / 12, overall, (3 * 2 + 10 * overall) / 13]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_many_cells_outweigh_the_median_of_all():
    distance = torch.cat([torch.full((5_000,), 3.0), torch.full((9_000,), 1.0)])
    found = typical_distances(distance, (distance == 1).long(), 2)
    np.testing.assert_allclose(found, [3, 1], rtol=0.01)
