import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from scmetaq.nn import bounded_sizes


def make(n_cells, n_codes, seed):
    """Similarities of cells of very uneven density."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n_cells, 4, generator=generator, dtype=torch.double)
    z *= torch.rand(n_cells, 1, generator=generator) ** 2
    return -torch.cdist(z, z[torch.randperm(n_cells, generator=generator)[:n_codes]]).square()


def sizes_under(similarity, offsets):
    return torch.bincount((similarity + offsets).argmax(1), minlength=similarity.shape[1])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("least", "most"), [(20, 20), (15, 25), (1, 22), (18, 200), (5, 40)])
def test_sizes_are_within_the_bounds(least, most, seed):
    similarity = make(200, 10, seed)
    free = sizes_under(similarity, 0)
    assert free.min() < 15
    assert free.max() > 25
    sizes = sizes_under(similarity, bounded_sizes(similarity, least, most))
    assert least <= sizes.min()
    assert sizes.max() <= most


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_sizes_are_the_best_ones(seed):
    similarity = make(120, 6, seed)
    found = (similarity + bounded_sizes(similarity, 20, 20)).argmax(1)
    slots = similarity.numpy().repeat(20, axis=1)
    cells, best = linear_sum_assignment(slots, maximize=True)
    np.testing.assert_array_equal(found, best[np.argsort(cells)] // 20)


def test_bounds_of_one_cell_less_or_more_are_the_best_ones():
    """By trying all sizes of three codes."""
    similarity = make(12, 3, 0)
    found = (similarity + bounded_sizes(similarity, 3, 5)).argmax(1)
    best = -np.inf
    for sizes in ((3, 4, 5), (3, 5, 4), (4, 3, 5), (4, 5, 3), (5, 3, 4), (5, 4, 3), (4, 4, 4)):
        slots = similarity.numpy().repeat(sizes, axis=1)
        best = max(best, slots[linear_sum_assignment(slots, maximize=True)].sum())
    assert similarity[torch.arange(12), found].sum().item() == pytest.approx(best)


def test_bounds_that_hold_anyway_change_nothing():
    similarity = make(200, 10, 0)
    assert (bounded_sizes(similarity, 1, 200) == 0).all()


def test_no_cell_is_left_on_the_border():
    similarity = make(200, 10, 0)
    best = (similarity + bounded_sizes(similarity, 18, 22)).topk(2, dim=1).values
    assert (best[:, 0] - best[:, 1]).min() > 1e-9


def test_identical_cells_are_kept_together():
    similarity = make(50, 5, 0)[[0] * 30 + list(range(1, 21))]
    assert sizes_under(similarity, bounded_sizes(similarity, 10, 10)).max() >= 30
