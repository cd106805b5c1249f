"""Small groups that are clearly apart."""

import pytest
import torch

from scmetaq.nn import _set_apart as module
from scmetaq.nn import exchange, relocate, set_apart, squared_distances
from scmetaq.nn._exchange import Partition
from scmetaq.nn._relocation import cheapest_merges, two_means
from scmetaq.nn._set_apart import (
    _far_neighborhoods,
    _groups_apart,
    _merges_of_alike,
    _separation,
)

N, D, N_RARE, K = 800, 100, 5, 16


def cells(distance=11.0, n_rare=N_RARE, seed=0):
    """Noise in many dimensions, in four large groups, and a small group beside one of these."""
    z = torch.randn(N + n_rare, D, generator=torch.Generator().manual_seed(seed))
    for group in range(4):
        z[group * N // 4 : (group + 1) * N // 4, group] += 12
    z[N:, 0] += 12
    z[N:, 10] += distance
    return z


def fitted(z, n_codes=K):
    generator = torch.Generator().manual_seed(0)
    start = z[torch.randperm(len(z), generator=generator)[:n_codes]]
    codes = relocate(z, exchange(z, start, generator=generator), generator=generator)
    return exchange(z, codes, generator=generator, evenness=0.2)


def assign(z, codes):
    return squared_distances(z, codes).argmin(1)


def keep_to_themselves(z, codes):
    """Whether the cells of the small group share a code with each other alone."""
    found = assign(z, codes)
    return len(found[N:].unique()) == 1 and not torch.isin(found[:N], found[N:]).any()


@pytest.mark.parametrize("seed", range(3))
def test_a_group_that_is_apart_in_one_of_many_dimensions_gets_a_code(seed):
    z = cells(seed=seed)
    codes = fitted(z)
    assert not keep_to_themselves(z, codes)
    after = set_apart(z, codes)
    assert keep_to_themselves(z, after)
    found = assign(z, after)
    assert found.bincount(minlength=K).min() >= 1
    means = torch.stack([z[found == code].mean(0) for code in range(K)])
    torch.testing.assert_close(means, after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_not_set_apart(seed):
    z = cells(n_rare=0, seed=seed)
    codes = fitted(z)
    assert set_apart(z, codes) is codes


@pytest.mark.parametrize("n_rare", [1, 2])
def test_one_or_two_cells_are_not(n_rare):
    z = cells(n_rare=n_rare)
    z[:N] = z[0]
    z[:N] += 0.1 * torch.randn(N, D, generator=torch.Generator().manual_seed(1))
    codes = z.mean(0, keepdim=True)
    state = Partition(z, torch.zeros(len(z), dtype=torch.long), 1)
    leaves, parts = two_means(state, z[N:].mean(0, keepdim=True))
    assert leaves.nonzero()[:, 0].tolist() == list(range(N, len(z)))
    assert (_separation(state, leaves, parts) > 8).item() == (n_rare == 2)
    assert not _groups_apart(state).gain.any()
    assert set_apart(z, codes) is codes


def test_the_separation_leaves_each_cell_out():
    z = cells()
    state = Partition(z, assign(z, fitted(z)), K)
    leaves, parts = two_means(state, _far_neighborhoods(state))
    found = _separation(state, leaves, parts)
    assert (found > 0).sum() > K // 2
    for code in range(K):
        x = z[state.assignment == code].double()
        second = leaves[state.assignment == code]
        if min(second.sum(), (~second).sum()) < 2:
            assert found[code] == 0
            continue
        x = x - x.mean(0)
        values = []
        for i in range(len(x)):
            others = torch.arange(len(x)) != i
            direction = x[second & others].mean(0) - x[~second & others].mean(0)
            values.append(x[i] @ direction)
        v = torch.stack(values)
        parts_of = [v[second], v[~second]]
        within = sum((part - part.mean()).square().sum() for part in parts_of) / (len(x) - 2)
        expected = (parts_of[0].mean() - parts_of[1].mean()) / within.sqrt()
        assert found[code].item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("n_cells", [19, 20])
def test_a_code_of_few_cells_is_left_alone(n_cells):
    z = torch.randn(n_cells, 3, generator=torch.Generator().manual_seed(0))
    z[:4, 0] += 50
    state = Partition(z, torch.zeros(n_cells, dtype=torch.long), 1)
    split = _groups_apart(state)
    assert split.leaves.nonzero()[:, 0].tolist() == [0, 1, 2, 3]
    assert split.gain.tolist() == [torch.inf if n_cells == 20 else 0]


@pytest.mark.parametrize("budget", [1, 30_000, 10**9])
def test_groups_are_looked_for_from_three_neighbours(monkeypatch, budget):
    monkeypatch.setattr(module, "_BUDGET", budget)
    z = cells()
    state = Partition(z, assign(z, fitted(z)), K)
    found = _far_neighborhoods(state)
    for code in range(K):
        x = z[state.assignment == code]
        near = torch.cdist(x, x).topk(3, largest=False).indices
        means = x[near].mean(1)
        farthest = (means - x.mean(0)).square().sum(1).argmax()
        torch.testing.assert_close(found[code], means[farthest], rtol=1e-4, atol=1e-4)


def test_large_codes_are_searched_in_part(monkeypatch):
    monkeypatch.setattr(module, "_MOST_CELLS", 40)
    z = cells()
    state = Partition(z, torch.zeros(len(z), dtype=torch.long), 1)
    x = z[:40]
    means = x[torch.cdist(x, x).topk(3, largest=False).indices].mean(1)
    farthest = (means - z.mean(0)).square().sum(1).argmax()
    found = _far_neighborhoods(state)[0]
    torch.testing.assert_close(found, means[farthest], rtol=1e-4, atol=1e-4)


def crowd():
    """Twenty groups far from each other, in each of which four cells are apart."""
    generator = torch.Generator().manual_seed(0)
    middle = 40 * torch.randn(20, D, generator=generator)
    z = middle.repeat_interleave(40, 0) + torch.randn(800, D, generator=generator)
    z[::10] += 30 * torch.nn.functional.one_hot(torch.tensor(3), D)
    return z + torch.randn(800, D, generator=generator), middle


@pytest.mark.parametrize(("n_codes", "n_apart"), [(20, 1), (60, 3)])
def test_a_twentieth_of_the_codes_is_set_apart_at_most(n_codes, n_apart):
    z, middle = crowd()
    far = 1e4 + 1e4 * torch.arange(n_codes - 20)[:, None] * torch.ones(D)
    z, codes = torch.cat([z, far]), torch.cat([middle, far])
    split = _groups_apart(Partition(z, assign(z, codes), n_codes))
    assert split.gain.count_nonzero() == n_apart
    assert split.gain.nonzero().max() < 20


@pytest.mark.parametrize(("n_codes", "least"), [(2, 8), (50, 8), (100, 7), (400, 6.25)])
@pytest.mark.parametrize("distance", [6.5, 7.0, 8.0, 9.0])
def test_a_code_of_many_is_given_more_easily(n_codes, least, distance):
    z = torch.randn(210, D, generator=torch.Generator().manual_seed(0))
    z[-10:, 0] += distance
    far = 1e4 + 1e4 * torch.arange(n_codes - 1)[:, None] * torch.ones(D)
    codes = torch.cat([z.mean(0, keepdim=True), far])
    z = torch.cat([z, far])
    state = Partition(z, assign(z, codes), n_codes)
    leaves, parts = two_means(state, _far_neighborhoods(state))
    separation = _separation(state, leaves, parts)[0]
    assert 5.5 < separation < 9
    assert _groups_apart(state).gain.any() == (separation > least)


def test_codes_that_are_apart_are_not_merged_for_a_group():
    z, codes = crowd()
    assert _groups_apart(Partition(z, assign(z, codes), 20)).gain.any()
    assert set_apart(z, codes) is codes


def test_halves_of_one_group_are_merged_for_another_that_is_apart():
    z, middle = crowd()
    large = torch.randn(200, D, generator=torch.Generator().manual_seed(3))
    halves = torch.stack([large[large[:, 0] < 0].mean(0), large[large[:, 0] > 0].mean(0)])
    z, codes = torch.cat([z, large]), torch.cat([middle, halves])
    before, after = assign(z, codes), assign(z, set_apart(z, codes))
    assert len(before[800:].unique()) == 2
    assert len(after[800:].unique()) == 1
    assert not torch.isin(after[:800], after[800:]).any()
    assert len(after.unique()) == 22


def test_two_cells_that_are_apart_keep_their_code():
    z = cells(n_rare=2, distance=30)
    codes = torch.stack([z[:N].mean(0), z[N:].mean(0)])
    merge = _merges_of_alike(Partition(z, assign(z, codes), 2), 1)
    assert merge.cost.isinf().all()


@pytest.mark.parametrize("n_wanted", [1, 2])
def test_merges_are_those_of_the_pairs_whose_cells_say_so(monkeypatch, n_wanted):
    monkeypatch.setattr(module, "_TRIES", 6)
    z = cells(n_rare=30, distance=30)
    state = Partition(z, assign(z, fitted(z)), K)
    cost, partner = cheapest_merges(state)
    found = _merges_of_alike(state, n_wanted)
    is_tried = torch.zeros(K, dtype=torch.bool)
    is_tried[cost.argsort()[: 6 * n_wanted]] = True
    for code in range(K):
        own, other = state.assignment == code, state.assignment == partner[code]
        both = Partition(z[own | other], torch.zeros((own | other).sum(), dtype=torch.long), 1)
        is_second = other[own | other]
        parts = Partition(both.z, is_second.long(), 2)
        is_alike = bool(_separation(both, is_second, parts) < 4)
        expected = cost[code] if is_alike and is_tried[code] else torch.inf
        assert found.cost[code].item() == pytest.approx(float(expected))
    assert found.cost.isfinite().any()
    assert torch.equal(found.partner, partner)


@pytest.mark.parametrize("n_codes", [1, 2, 3])
def test_few_codes_and_cells_that_are_the_same(n_codes):
    z = torch.ones(30, 4)
    z[:n_codes] += torch.arange(n_codes)[:, None]
    codes = z[:n_codes].clone()
    after = set_apart(z, codes)
    assert after.shape == codes.shape
    assert torch.isfinite(after).all()
