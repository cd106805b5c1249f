import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from scmetaq.nn import neighborhood_mean, squared_distances
from scmetaq.nn._distances import (
    _BANDWIDTH_NEIGHBOR,
    N_NEIGHBORS,
    distances_without,
    principal_scores,
    typical_distances,
)


def scores(n, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_squared_distances_agree_with_scipy():
    a, b = scores(30).double(), scores(20, seed=2).double()
    np.testing.assert_allclose(squared_distances(a, b), cdist(a, b, "sqeuclidean"), atol=1e-12)
    assert (squared_distances(a, a) >= 0).all()


def test_distances_are_to_the_mean_of_the_other_cells():
    z, assignment = scores(21).double(), torch.arange(21) % 4
    assignment[-1] = 4  # alone
    codes = torch.stack([z[assignment == k].mean(0) for k in range(5)])
    found = distances_without(z, codes, assignment)
    for i in range(20):
        others = (assignment == assignment[i]) & (torch.arange(21) != i)
        expected = (z[i] - z[others].mean(0)).square().sum()
        np.testing.assert_allclose(found[i], expected, rtol=1e-10)
    assert found[-1] == torch.inf


def test_typical_distances_are_medians_drawn_to_that_of_all_but_of_many_cells():
    distance = torch.tensor([1.0, 2.0, 9.0, 4.0, 4.0])
    assignment = torch.tensor([2, 2, 2, 0, 0])
    found = typical_distances(distance, assignment, 3)
    overall = 4.0
    expected = [(2 * 4 + 10 * overall) / 12, overall, (3 * 2 + 10 * overall) / 13]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    distance = torch.cat([torch.full((5_000,), 3.0), torch.full((9_000,), 1.0)])
    found = typical_distances(distance, (distance == 1).long(), 2)
    np.testing.assert_allclose(found, [3, 1], rtol=0.01)


def mean_by_loops(cells, reference):
    """The documented formula, one cell at a time, in double precision."""
    reference = reference.double().numpy()
    n_neighbors = max(1, min(N_NEIGHBORS, len(reference) // 10))
    means = []
    for cell in cells.double().numpy():
        distance = np.linalg.norm(reference - cell, axis=1)
        nearest = np.argsort(distance)[:n_neighbors]
        width = distance[nearest[min(_BANDWIDTH_NEIGHBOR, n_neighbors - 1)]]
        weight = np.exp(-((distance[nearest] / width) ** 2))
        means.append(weight @ reference[nearest] / weight.sum())
    return np.array(means)


@pytest.mark.parametrize("n_reference", [25, 80, 700])
def test_agrees_with_loops_over_cells(n_reference):
    cells, reference = scores(40, seed=1), scores(n_reference)
    found = neighborhood_mean(cells, reference)
    np.testing.assert_allclose(found, mean_by_loops(cells, reference), atol=1e-4)


def test_blocks_do_not_matter(monkeypatch):
    cells, reference = scores(40, seed=1), scores(200)
    whole = neighborhood_mean(cells, reference)
    monkeypatch.setattr("scmetaq.nn._distances._BLOCK", 7)
    torch.testing.assert_close(neighborhood_mean(cells, reference), whole)


def test_a_rare_type_is_not_blended_into_others_and_duplicates_are_their_own_mean():
    crowd, rare = scores(500), scores(10, seed=1) * 0.1 + 30
    mean = neighborhood_mean(rare, torch.cat([crowd, rare]))
    assert (mean > 29).all()
    reference = scores(20).repeat(20, 1)
    found = neighborhood_mean(reference[:20], reference)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, reference[:20], atol=1e-2, rtol=0)


def test_averaging_takes_noise_away_and_is_of_anything():
    truth = torch.tensor([[3.0, 0], [-3.0, 0]]).repeat(200, 1)
    noisy = truth + 0.5 * scores(400, 2)
    smooth = neighborhood_mean(noisy, noisy)
    assert (smooth - truth).square().mean() < 0.8 * (noisy - truth).square().mean()
    z = scores(60, 4)
    means = neighborhood_mean(z, z)
    torch.testing.assert_close(neighborhood_mean(z, z, z[:, 1:3]), means[:, 1:3])


def test_principal_scores_are_found_where_single_precision_fails(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(40, 6, generator=generator)
    expected, eigh, found = principal_scores(z, 2).abs(), torch.linalg.eigh, []

    def failing(matrix):
        if matrix.dtype == torch.float64:
            return eigh(matrix)
        if found:
            raise torch.linalg.LinAlgError("failed to converge")
        return matrix, torch.full_like(matrix, torch.nan)

    monkeypatch.setattr(torch.linalg, "eigh", failing)
    for _ in range(2):
        found.append(principal_scores(z, 2).abs())
        torch.testing.assert_close(found[-1], expected, atol=1e-4, rtol=1e-4)
