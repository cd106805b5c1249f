import pytest
import torch

from scmetaq.nn import Codebook
from scmetaq.train import SizeBounds, bound_sizes


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
    bound_sizes(codebook, SizeBounds(13, 17, lambda: z), move_codes=move_codes)
    assert sizes(codebook, z).min() >= 13
    assert sizes(codebook, z).max() <= 17
    assert torch.equal(codebook.codes, z[:6]) == (not move_codes)


def test_codes_that_move_are_nearer_to_their_cells(codebook, z):
    fixed = Codebook(6, 4)
    fixed.set_codes(z[:6])
    bound_sizes(codebook, SizeBounds(13, 17, lambda: z))
    bound_sizes(fixed, SizeBounds(13, 17, lambda: z), move_codes=False)
    error, of_fixed = (
        (z - book.embed(book(z).assignment)).square().sum() for book in (codebook, fixed)
    )
    assert error < 0.9 * of_fixed


def test_identical_cells_in_the_way_are_told(codebook, z):
    z = torch.cat([z[:1].expand(60, 4), z[:30]])
    with pytest.warns(UserWarning, match=r"of 13 to 17 cells, made some of \d+ to 6\d"):
        bound_sizes(codebook, SizeBounds(13, 17, lambda: z), move_codes=False)


@pytest.mark.parametrize("move_codes", [True, False])
def test_codes_that_identical_cells_leave_empty_get_others(codebook, z, move_codes):
    z = torch.cat([z[:1].expand(60, 4), z[:30]])
    with pytest.warns(UserWarning, match=r"of 13 to 17 cells, made some of [1-9]\d* to 6\d"):
        bound_sizes(codebook, SizeBounds(13, 17, lambda: z), move_codes=move_codes)
    assert sizes(codebook, z).min() >= 1
