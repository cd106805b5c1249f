import pytest
import torch

from scmetaq.nn import cluster, squared_distances
from scmetaq.nn._clustering import lloyd
from scmetaq.nn._small_groups import separation, set_groups_apart


def assign(z, codes):
    return squared_distances(z.double(), codes.double()).argmin(1)


def of(z, assignment, n_codes):
    """The clustering of an assignment."""
    return lloyd(z, assignment, n_codes, max_passes=0)


def noisy(distance=11.0, n_rare=5, seed=0):
    """Noise in 100 dimensions: 800 cells in four large groups, a small one next to one of these."""
    z = torch.randn(800 + n_rare, 100, generator=torch.Generator().manual_seed(seed))
    for group in range(4):
        z[group * 200 : (group + 1) * 200, group] += 12
    z[800:, 0] += 12
    z[800:, 10] += distance
    return z


def crowd(n_alone=0):
    """Twenty far groups, in each of which four cells are apart, and single cells with codes."""
    generator = torch.Generator().manual_seed(0)
    middle = 40 * torch.randn(20, 100, generator=generator)
    z = middle.repeat_interleave(40, 0) + torch.randn(800, 100, generator=generator)
    z[::10, 3] += 30
    alone = 100 * torch.randn(n_alone, 100, generator=generator)
    z, codes = torch.cat([z, alone]), torch.cat([middle, alone])
    return z, of(z, assign(z, codes), len(codes))


@pytest.mark.parametrize("seed", range(3))
def test_a_group_that_is_apart_in_one_of_many_dimensions_gets_a_code(seed):
    z = noisy(seed=seed)
    large = cluster(z[:800], 16, evenness=0.2)
    own = assign(z[800:, :4].mean(0, keepdim=True), large.codes[:, :4])
    before = of(z, torch.cat([large.assignment, own.expand(5)]), 16)
    after = set_groups_apart(z, before).assignment
    assert torch.isin(before.assignment[:800], before.assignment[800:]).any()
    assert len(after[800:].unique()) == 1
    assert not torch.isin(after[:800], after[800:]).any()
    assert torch.bincount(after, minlength=16).min() >= 1


@pytest.mark.parametrize("seed", [1, 2])
def test_six_cells_that_are_apart_share_no_code_only_where_groups_are_set_apart(seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.cat([torch.randn(n, 150, generator=generator) for n in (800, 6)])
    z[800:, 10] += 12
    before = cluster(z, 16, evenness=0.2, seed=seed)
    for found, is_expected in ((before, False), (set_groups_apart(z, before), True)):
        code = found.assignment
        is_alone = len(code[800:].unique()) == 1 and not torch.isin(code[:800], code[800:]).any()
        assert is_alone == is_expected


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_not_set_apart(seed):
    z = noisy(n_rare=0, seed=seed)
    found = cluster(z, 16, evenness=0.2)
    assert set_groups_apart(z, found) is found


def test_each_cell_is_left_out_of_the_mean_of_its_own_part():
    x = noisy(seed=1)[600:].double()
    second = torch.arange(205) >= 190
    x = x - x.mean(0)
    values = []
    for i in range(205):
        others = torch.arange(205) != i
        values.append(x[i] @ (x[second & others].mean(0) - x[~second & others].mean(0)))
    v = torch.stack(values)
    parts = v[second], v[~second]
    within = sum((part - part.mean()).square().sum() for part in parts) / 203
    expected = (parts[0].mean() - parts[1].mean()) / within.sqrt()
    assert separation(x, second) == pytest.approx(expected.item())
    assert separation(x, torch.arange(205) == 0) == 0


def test_codes_that_are_apart_are_not_merged_for_a_group_but_halves_of_a_group_are():
    z, found = crowd()
    assert set_groups_apart(z, found) is found
    large = torch.randn(200, 100, generator=torch.Generator().manual_seed(3))
    z = torch.cat([z, large])
    found = of(z, torch.cat([found.assignment, 20 + (large[:, 0] > 0).long()]), 22)
    after = set_groups_apart(z, found).assignment
    assert len(after[800:].unique()) == 1
    assert not torch.isin(after[:800], after[800:]).any()
    assert len(after.unique()) == 22


@pytest.mark.parametrize("distance", [2, 3, 6, 10])
def test_codes_more_than_four_standard_deviations_apart_are_not_merged(distance):
    z = torch.randn(160, 100, generator=torch.Generator().manual_seed(0))
    z[36:40, 3] += 30  # a group that is apart
    z[40:, 1] += 60
    z[100:, 2] += distance
    found = of(z, torch.tensor([0, 1, 2]).repeat_interleave(torch.tensor([40, 60, 60])), 3)
    assert (set_groups_apart(z, found) is not found) == (distance < 4)


def test_a_twentieth_of_the_codes_is_set_apart_at_most():
    z, found = crowd(n_alone=20)
    generator = torch.Generator().manual_seed(1)
    halves = torch.randn(10, 40, 100, generator=generator)
    halves += 60 * torch.randn(10, 1, 100, generator=generator)
    code = [40 + 2 * i + (half[:, 0] > half[:, 0].mean()).long() for i, half in enumerate(halves)]
    z, code = torch.cat([z, *halves]), torch.cat([found.assignment, *code])
    found = of(z, code, 60)
    after = set_groups_apart(z, found).assignment
    groups = [after[40 * k : 40 * k + 40] for k in range(20)]
    assert sum(not torch.isin(of[1], of[::10]).any() for of in groups) == 3


@pytest.mark.parametrize("shared", [(3, 2), (2, 2, 1)])
def test_a_group_whose_cells_are_in_several_codes_gets_one(shared):
    z = noisy(distance=14)
    code = torch.arange(16).repeat_interleave(50)  # four codes for each large group
    code = torch.cat([code, torch.arange(len(shared)).repeat_interleave(torch.tensor(shared))])
    after = set_groups_apart(z, of(z, code, 16)).assignment
    assert len(after[800:].unique()) == 1
    assert not torch.isin(after[:800], after[800:]).any()
    assert len(after.unique()) == 16


def test_two_cells_are_left_alone():
    z = noisy(distance=30, n_rare=3)
    code = torch.cat([torch.arange(16).repeat_interleave(50), torch.zeros(3, dtype=torch.long)])
    for n_cells, is_moved in ((803, True), (802, False)):
        found = of(z[:n_cells], code[:n_cells], 16)
        assert (set_groups_apart(z[:n_cells], found) is not found) == is_moved


@pytest.mark.parametrize("distance", [5.0, 6.0, 8.0, 9.0])
def test_a_group_is_apart_from_six_standard_deviations_on(distance):
    z = noisy(distance, n_rare=10, seed=2)
    code = torch.cat([torch.arange(16).repeat_interleave(50), torch.zeros(10, dtype=torch.long)])
    found = of(z, code, 16)
    far = separation(z[code == 0], torch.nonzero(code == 0)[:, 0] >= 800)
    assert abs(far - 6) > 0.3
    assert (set_groups_apart(z, found) is not found) == (far > 6)
