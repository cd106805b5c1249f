"""Codes that move to where they are worth more."""

import numpy as np
import pytest
import torch

from scmetaq.nn import exchange, quantization_error, relocate, squared_distances
from scmetaq.nn._exchange import Partition
from scmetaq.nn._relocation import _split, cheapest_merges

N_LARGE, N_RARE = 400, 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def cells(n_rare=N_RARE, distance=12.0, seed=0):
    """A large group of cells and a small one far from it."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(N_LARGE + n_rare, 5))
    z[N_LARGE:, 0] += distance
    return torch.from_numpy(z).float()


def blind_start(z, n_codes):
    """Codes that have been exchanged from a start without any in the small group."""
    return exchange(z, z[:n_codes].clone(), generator=generator())


def assign(z, codes):
    return squared_distances(z, codes).argmin(1)


def far_away(z):
    """A start from which exchange leaves the small group where it was put."""
    codes = torch.cat([z[:9], z[[0, N_LARGE]].mean(0, keepdim=True)])
    assignment = assign(z, codes)
    assignment[N_LARGE:] = assignment[0]
    return Partition(z, assignment, 10).means


@pytest.mark.parametrize("seed", range(4))
def test_a_small_group_far_away_gets_a_code(seed):
    z = cells(seed=seed)
    codes = relocate(z, far_away(z), generator=generator())
    found = assign(z, codes)
    assert len(found[N_LARGE:].unique()) == 1
    assert not torch.isin(found[:N_LARGE], found[N_LARGE:]).any()


@pytest.mark.parametrize("n_rare", [1, 2])
def test_one_or_two_outliers_do_not(n_rare):
    z = cells(n_rare)
    means = torch.stack([z.mean(0) - 1, z.mean(0) + 1])
    split = _split(Partition(z, torch.zeros(len(z), dtype=torch.long), 1))
    assert split.leaves.nonzero()[:, 0].tolist() == list(range(N_LARGE, len(z)))
    assert split.gain.item() == 0
    assert len(relocate(z, means, generator=generator())) == 2


@pytest.mark.parametrize("n_codes", [1, 2, 10, 60])
@pytest.mark.parametrize("seed", range(3))
def test_the_error_never_rises_and_no_code_is_empty(n_codes, seed):
    z = cells(n_rare=20, distance=4, seed=seed)
    before = blind_start(z, n_codes)
    after = relocate(z, before, generator=generator(seed))
    assert quantization_error(z, after) <= quantization_error(z, before)
    assert assign(z, after).bincount(minlength=n_codes).min() >= 1
    assert torch.isfinite(after).all()


def test_gains_and_costs_are_those_of_the_loss():
    z = cells(n_rare=30, distance=3)
    state = Partition(z, assign(z, blind_start(z, 6)), 6)

    def loss(assignment):
        parts = [z[assignment == code].double() for code in assignment.unique()]
        return sum((part - part.mean(0)).square().sum().item() for part in parts)

    now, split = loss(state.assignment), _split(state)
    assert (split.gain > 0).any()
    cost, partner = cheapest_merges(state)
    for code in range(6):
        leaving = (state.assignment == code) & split.leaves
        divided = torch.where(leaving, 6, state.assignment)
        smaller = min(leaving.sum(), (divided == code).sum())
        gain = now - loss(divided) if smaller >= 3 else 0
        assert split.gain[code].item() == pytest.approx(gain, rel=1e-3)
        merges = {
            other: loss(torch.where(state.assignment == code, other, state.assignment)) - now
            for other in range(6)
            if other != code
        }
        assert min(merges.values()) == pytest.approx(cost[code].item(), rel=1e-3)
        assert min(merges, key=merges.__getitem__) == partner[code]


def test_nothing_moves_where_nothing_is_gained():
    z = torch.randn(200, 3, generator=generator())
    z[100:] += 50
    codes = torch.stack([z[:100].mean(0), z[100:].mean(0)])
    assert torch.equal(relocate(z, codes, generator=generator()), codes)


def test_the_same_seed_gives_the_same_codes():
    z = cells(n_rare=20)
    start = far_away(z)
    first, second = (relocate(z, start, generator=generator(3)) for _ in range(2))
    assert torch.equal(first, second)


def test_the_input_is_not_changed():
    z = cells()
    start = far_away(z)
    kept = z.clone(), start.clone()
    relocate(z, start, generator=generator())
    assert torch.equal(z, kept[0])
    assert torch.equal(start, kept[1])
