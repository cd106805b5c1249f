import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from scmetaq.nn import Codebook
from scmetaq.train import SizeBounds, bound_sizes, size_bounds
from scmetaq.train._size_bounds import offsets_within


@pytest.fixture
def z():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(90, 4, generator=generator) * torch.rand(90, 1, generator=generator)


@pytest.fixture
def codebook(z):
    codebook = Codebook(6, 4)
    codebook.set_codes(z[:6])
    return codebook


def sizes(codebook, z):
    return torch.bincount(codebook(z).assignment, minlength=6)


@pytest.mark.parametrize("move_codes", [True, False])
def test_every_code_has_an_allowed_number_of_cells(codebook, z, move_codes):
    assert sizes(codebook, z).max() > 17
    bound_sizes(codebook, z, SizeBounds(13, 17), move_codes=move_codes)
    assert sizes(codebook, z).min() >= 13
    assert sizes(codebook, z).max() <= 17
    assert torch.equal(codebook.codes, z[:6]) == (not move_codes)


def test_codes_that_move_are_nearer_to_their_cells(codebook, z):
    fixed = Codebook(6, 4)
    fixed.set_codes(z[:6])
    bound_sizes(codebook, z, SizeBounds(13, 17))
    bound_sizes(fixed, z, SizeBounds(13, 17), move_codes=False)
    error, of_fixed = (
        (z - book.embed(book(z).assignment)).square().sum() for book in (codebook, fixed)
    )
    assert error < 0.9 * of_fixed


@pytest.mark.parametrize("move_codes", [True, False])
def test_codes_that_identical_cells_leave_empty_get_others(codebook, z, move_codes):
    z = torch.cat([z[:1].expand(60, 4), z[:30]])
    with pytest.warns(UserWarning, match=r"of 13 to 17 cells, made some of [1-9]\d* to 6\d"):
        bound_sizes(codebook, z, SizeBounds(13, 17), move_codes=move_codes)
    assert sizes(codebook, z).min() >= 1


def make(n_cells=200, n_codes=10, seed=0):
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
    sizes = sizes_under(similarity, offsets_within(similarity, SizeBounds(least, most)))
    assert least <= sizes.min()
    assert sizes.max() <= most


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_sizes_are_the_best_ones(seed):
    similarity = make(120, 6, seed)
    found = (similarity + offsets_within(similarity, SizeBounds(20, 20))).argmax(1)
    slots = similarity.numpy().repeat(20, axis=1)
    cells, best = linear_sum_assignment(slots, maximize=True)
    np.testing.assert_array_equal(found, best[np.argsort(cells)] // 20)


def test_bounds_of_one_cell_less_or_more_are_the_best_ones():
    """By trying all sizes of three codes."""
    similarity = make(12, 3, 0)
    found = (similarity + offsets_within(similarity, SizeBounds(3, 5))).argmax(1)
    best = -np.inf
    for sizes in ((3, 4, 5), (3, 5, 4), (4, 3, 5), (4, 5, 3), (5, 3, 4), (5, 4, 3), (4, 4, 4)):
        slots = similarity.numpy().repeat(sizes, axis=1)
        best = max(best, slots[linear_sum_assignment(slots, maximize=True)].sum())
    assert similarity[torch.arange(12), found].sum().item() == pytest.approx(best)


def test_bounds_that_hold_anyway_change_nothing_and_no_cell_is_left_on_the_border():
    similarity = make()
    assert (offsets_within(similarity, SizeBounds(1, 200)) == 0).all()
    best = (similarity + offsets_within(similarity, SizeBounds(18, 22))).topk(2, dim=1).values
    assert (best[:, 0] - best[:, 1]).min() > 1e-9
    twins = make(50, 5)[[0] * 30 + list(range(1, 21))]  # are kept together
    assert sizes_under(twins, offsets_within(twins, SizeBounds(10, 10))).max() >= 30


def test_without_the_solver_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr("scmetaq.train._size_bounds.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'scmetaq\[bounds\]'"):
        size_bounds(2, None, n_cells=100, n_metacells=10)
    assert size_bounds(None, None, n_cells=100, n_metacells=10) is None
