import pytest
import torch

from scmetaq.nn._code_index import CodeIndex, code_regions, half_squares, region_means


def latents(n, d=20, n_states=60, seed=0):
    """Cells of many states in noise, so that most distances are noise."""
    generator = torch.Generator().manual_seed(seed)
    state = 3 * torch.randn(n_states, d, generator=torch.Generator().manual_seed(9))
    return state[torch.randint(n_states, (n,), generator=generator)] + torch.randn(
        n, d, generator=generator
    )


@pytest.fixture(scope="module")
def codes():
    return latents(900, seed=1)


@pytest.fixture(scope="module")
def index(codes):
    return CodeIndex.of(codes, code_regions(codes))


def nearest(z, codes):
    return torch.cdist(z.double(), codes.double()).argmin(1)


def test_nearly_all_cells_meet_their_nearest_code_among_a_part_of_the_codes(codes, index):
    z = latents(4_000)
    found = index.candidates(z, 2)
    assert (found == nearest(z, codes)[:, None]).any(1).double().mean() > 0.999
    assert len(index.codes) == 60
    assert found.shape == (4_000, 2 * 16)


def test_with_as_few_regions_as_are_searched_the_nearest_code_is_exact(codes):
    z, few = latents(500), CodeIndex.of(codes, code_regions(codes, 8))
    assert (few.candidates(z, 1) == nearest(z, codes)[:, None]).any(1).all()


def test_candidates_of_a_cell_do_not_depend_on_other_cells(index):
    z = latents(300)
    every = index.candidates(z, 2)
    assert torch.equal(every[40:47], index.candidates(z[40:47], 2))


def test_regions_with_fewer_codes_than_asked_for_repeat_their_best():
    codes = torch.eye(4)
    index = CodeIndex.of(codes, torch.tensor([0, 1, 1, 2]))
    found = index.candidates(codes[:1], 2)
    assert found.shape == (1, 6)
    assert set(found[0].tolist()) == {0, 1, 2, 3}
    assert found[0, :2].tolist() == [0, 0]


def test_regions_are_those_of_k_means_and_none_is_empty(codes):
    region = code_regions(codes, 30)
    assert torch.equal(region.unique(), torch.arange(30))
    centres = region_means(codes, region)
    torch.testing.assert_close(centres[3], codes[region == 3].mean(0))
    assert (nearest(codes, centres) == region).double().mean() > 0.95
    torch.testing.assert_close(half_squares(codes), -(codes.norm(dim=1) ** 2) / 2)
