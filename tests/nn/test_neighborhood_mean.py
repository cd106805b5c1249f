import numpy as np
import pytest
import torch

from scmetaq.nn import neighborhood_mean
from scmetaq.nn._neighborhood_mean import _BANDWIDTH_NEIGHBOR, N_NEIGHBORS


def scores(n, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


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
    monkeypatch.setattr("scmetaq.nn._neighborhood_mean._BLOCK", 7)
    torch.testing.assert_close(neighborhood_mean(cells, reference), whole)


def test_a_rare_type_is_not_blended_into_others():
    crowd, rare = scores(500), scores(10, seed=1) * 0.1 + 30
    mean = neighborhood_mean(rare, torch.cat([crowd, rare]))
    assert (mean > 29).all()


def test_duplicates_are_their_own_mean():
    reference = scores(20).repeat(20, 1)
    found = neighborhood_mean(reference[:20], reference)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, reference[:20], atol=1e-2, rtol=0)


def test_averaging_takes_noise_away():
    truth = torch.tensor([[3.0, 0], [-3.0, 0]]).repeat(200, 1)
    noisy = truth + 0.5 * scores(400, 2)
    smooth = neighborhood_mean(noisy, noisy)
    assert (smooth - truth).square().mean() < 0.8 * (noisy - truth).square().mean()


def test_anything_can_be_averaged_over_the_neighbours():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(60, 4, generator=generator)
    means = neighborhood_mean(scores, scores)
    torch.testing.assert_close(neighborhood_mean(scores, scores, scores[:, 1:3]), means[:, 1:3])
