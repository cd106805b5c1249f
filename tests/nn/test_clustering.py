import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

import scmetaq.nn._clustering as clustering
from scmetaq.nn import cluster, squared_distances
from scmetaq.nn._clustering import (
    Merge,
    Split,
    best_splits,
    cheapest_merges,
    exchange,
    fill_empty,
    lloyd,
    move_codes,
    nearest_codes,
    split_and_merge,
)


def cells(n=400, d=6, seed=0):
    """Cells in a few blurred states of uneven size."""
    rng = np.random.default_rng(seed)
    centre = 3 * rng.normal(size=(8, d))
    state = rng.choice(8, size=n, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02])
    return torch.from_numpy(centre[state] + rng.normal(size=(n, d))).float()


def outlying(n_rare, distance=12.0, seed=0):
    """A large group of 400 cells and a small one far from it."""
    z = torch.randn(400 + n_rare, 5, generator=torch.Generator().manual_seed(seed))
    z[400:, 0] += distance
    return z


def assign(z, codes):
    return squared_distances(z.double(), codes.double()).argmin(1)


def loss(z, codes):
    return squared_distances(z.double(), codes.double()).amin(1).sum().item()


def of(z, assignment, n_codes):
    """The clustering of an assignment."""
    return lloyd(z, assignment, n_codes, max_passes=0)


def squares(z, assignment):
    parts = [z[assignment == code].double() for code in assignment.unique()]
    return sum((part - part.mean(0)).square().sum().item() for part in parts)


def exchanged(z, assignment, n_codes, seed=0, **kwargs):
    generator = torch.Generator(z.device).manual_seed(seed)
    return exchange(z, assignment, n_codes, generator=generator, **kwargs)


def relative_gains(z, found):
    """Decrease of the loss by moving each cell to its best other code, in mean errors."""
    n = torch.bincount(found.assignment).double()
    distance = squared_distances(z.double(), found.codes.double())
    own = distance.gather(1, found.assignment[:, None])[:, 0]
    size = n[found.assignment]
    join = (distance * n / (n + 1)).scatter(1, found.assignment[:, None], torch.inf).amin(1)
    return ((own * size / (size - 1) - join)[size > 1]) / found.error


@pytest.mark.parametrize("n_codes", [2, 30, 60, 399, 400])
def test_every_code_is_the_mean_of_its_cells_which_are_nearest_to_it(n_codes):
    z = cells()
    found = cluster(z, n_codes, evenness=0.2)
    assert torch.bincount(found.assignment, minlength=n_codes).min() >= 1
    means = torch.stack([z[found.assignment == k].mean(0) for k in range(n_codes)])
    torch.testing.assert_close(found.codes, means, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.assignment, assign(z, found.codes))
    assert found.error == pytest.approx(loss(z, found.codes) / 400, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("start_name", ["far away", "all the same", "cells"])
def test_any_start_will_do(start_name):
    z = cells()
    starts = {"far away": z[:30] + 100, "all the same": z[:1].repeat(30, 1), "cells": z[:30]}
    start = starts[start_name]
    found = cluster(z, 30, start=start)
    assert len(found.assignment.unique()) == 30
    assert found.error < (1.05 if start_name == "cells" else 1.25) * cluster(z, 30).error


def test_codes_keep_the_order_of_the_start_and_the_loss_is_below_that_of_kmeans():
    z = cells()
    codes = cluster(z, 30).codes
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    again = cluster(z, 30, start=codes[order]).codes
    assert torch.equal(assign(again, codes[order]), torch.arange(30))
    ratios = []
    for seed in range(8):
        z = cells(seed=seed)
        kmeans = KMeans(40, n_init=1, random_state=seed).fit(z.numpy())
        ratios.append(400 * cluster(z, 40, seed=seed).error / kmeans.inertia_)
    assert np.median(ratios) < 0.99


def test_one_seed_gives_one_result_and_inputs_and_global_randomness_are_untouched():
    z, start = cells(), cells()[:30]
    kept = z.clone(), start.clone()
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for options in ({}, {"start": start}):
        first, second = (cluster(z, 30, seed=3, evenness=0.2, **options) for _ in range(2))
        assert torch.equal(first.codes, second.codes)
    assert torch.equal(z, kept[0])
    assert torch.equal(start, kept[1])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_neither_duplicated_cells_nor_single_outliers_do_harm():
    found = cluster(cells(50).repeat(4, 1), 20, evenness=0.2)
    assert torch.isfinite(found.codes).all()
    assert len(found.assignment.unique()) == 20
    z = torch.cat([cells(200), 50 + torch.arange(5.0)[:, None].expand(5, 6)])
    found = cluster(z, 12, evenness=5.0)
    assert torch.bincount(found.assignment, minlength=12).min() >= 1


@pytest.fixture(scope="module")
def real(model):
    """Latents of 400 real cells."""
    return torch.from_numpy(model.get_latent_representation())


def test_on_real_cells_exchange_lowers_the_loss_and_sizes_are_even_at_little_cost(real):
    """Ratios to k-means: .976; .979 after two sweeps; 1 without. Sizes vary half as much."""
    ratios, spreads = [], []
    for seed in range(6):
        kmeans = KMeans(25, n_init=1, random_state=seed).fit(real.numpy())
        found = [cluster(real, 25, seed=seed, evenness=evenness) for evenness in (0, 0.2)]
        sizes = [torch.bincount(of.assignment).double() for of in found]
        ratios.append([400 * of.error / kmeans.inertia_ for of in found])
        spreads.append([(n.std() / n.mean()).item() for n in sizes])
    (plain, even), (uneven, spread) = np.mean(ratios, 0), np.mean(spreads, 0)
    assert plain < 0.9775
    assert even < 0.985
    assert spread < 0.7 * uneven


@pytest.mark.parametrize("seed", range(3))
def test_even_sizes_cost_little(seed):
    z = cells(2_000, seed=seed)
    plain, even = (cluster(z, 40, seed=seed, evenness=evenness) for evenness in (0, 1.0))
    spread = [torch.bincount(found.assignment).double().std() for found in (plain, even)]
    assert spread[1] < 0.95 * spread[0]
    assert even.error < 1.03 * plain.error


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_moves_lower_the_loss_and_raise_the_entropy_of_usage(weight):
    z = cells(60)
    before = torch.arange(60) % 7

    def penalised(assignment):
        n = torch.bincount(assignment).double()
        return squares(z, assignment) + weight * torch.special.xlogy(n, n).sum().item()

    after = exchanged(z, before, 7, weight=weight)
    assert penalised(after) < penalised(before)
    for cell in range(60):  # no single move would lower it further
        for code in range(7):
            moved = after.clone()
            moved[cell] = code
            assert len(moved.unique()) < 7 or penalised(moved) > penalised(after) - 1e-3


def test_exchange_goes_on_until_hardly_any_move_would_help():
    """The Hartigan-Wong condition, recomputed from the result."""
    z = cells(4_000, d=20)
    kmeans = KMeans(80, n_init=1, random_state=0).fit(z.numpy())
    before = torch.from_numpy(kmeans.labels_).long()
    after = exchanged(z, before, 80)
    shares = [(relative_gains(z, of(z, a, 80)) > 1e-3).double().mean() for a in (before, after)]
    assert shares[0] > 0.04
    assert shares[1] < 0.01  # .035 after two sweeps


def test_exchange_takes_no_last_cell():
    """Where rounding says that a cell would be better off in another code of the same cells."""
    z = cells(60).repeat_interleave(2, 0) + 300
    assignment = torch.arange(120) % 40
    assignment[:30] = torch.arange(30)
    for seed in range(5):
        found = exchanged(z, assignment, 40, seed=seed)
        assert torch.bincount(found, minlength=40).min() >= 1
    # two pairs of duplicates share a code, and each of the four would gain by leaving
    z = torch.tensor([0.0, 0.0, 10.0, 10.0, 0.1, 0.1, 9.9, 9.9])[:, None]
    found = exchanged(z, torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]), 3)
    assert torch.bincount(found, minlength=3).min() >= 1


def blind(z):
    """Ten codes; the small group is with one far from it, where k-means leaves it."""
    codes = torch.cat([z[:9], z[[0, 400]].mean(0, keepdim=True)])
    assignment = assign(z, codes)
    assignment[400:] = assignment[0]
    return assignment


@pytest.mark.parametrize("seed", range(4))
def test_a_small_group_far_away_gets_a_code(seed):
    z = outlying(4, seed=seed)
    found = split_and_merge(z, blind(z), 10).assignment
    assert len(found[400:].unique()) == 1
    assert not torch.isin(found[:400], found[400:]).any()


@pytest.mark.parametrize("n_rare", [1, 2])
def test_one_or_two_outliers_get_none(n_rare):
    z = outlying(n_rare)
    split = best_splits(z, of(z, torch.zeros(len(z), dtype=torch.long), 1))
    assert split.leaves.nonzero()[:, 0].tolist() == list(range(400, len(z)))
    assert split.gain.item() == 0


@pytest.mark.parametrize("n_codes", [1, 2, 10, 60])
def test_split_and_merge_never_raises_the_error(n_codes):
    z = outlying(20, distance=4)
    before = lloyd(z, fill_empty(z, z[:n_codes], assign(z, z[:n_codes])), n_codes, max_passes=100)
    after = split_and_merge(z, before.assignment, n_codes)
    assert after.error <= before.error * (1 + 1e-6)
    assert after.assignment.bincount(minlength=n_codes).min() >= 1


def test_gains_of_splits_and_costs_of_merges_are_those_of_the_loss():
    z = outlying(30, distance=3)
    found = of(z, assign(z, z[:6]), 6)
    split, merge = best_splits(z, found), cheapest_merges(found)
    now = squares(z, found.assignment)
    assert (split.gain > 0).any()
    for code in range(6):
        own = found.assignment == code
        divided = torch.where(own & split.leaves, 6, found.assignment)
        smaller = min((own & split.leaves).sum(), (own & ~split.leaves).sum())
        gain = now - squares(z, divided) if smaller >= 3 else 0
        assert split.gain[code].item() == pytest.approx(gain, rel=1e-3)
        costs = {
            other: squares(z, torch.where(own, other, found.assignment)) - now
            for other in range(6)
            if other != code
        }
        assert min(costs.values()) == pytest.approx(merge.cost[code].item(), rel=1e-3)
        assert min(costs, key=costs.__getitem__) == merge.partner[code]


@pytest.mark.parametrize(("cost", "moves"), [(9.0, True), (11.0, False), (19.0, False)])
def test_codes_move_where_a_split_gains_more_than_a_merge_costs(cost, moves):
    assignment = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    split = Split(torch.tensor([10.0, 0, 0]), torch.tensor([0, 0, 1, 1, 0, 0, 0]).bool())
    merge = Merge(torch.tensor([50.0, cost, cost]), torch.tensor([1, 2, 1]))
    found = move_codes(assignment, split, merge)
    assert (found is not None) == moves
    if moves:
        assert found.tolist() == [0, 0, 1, 1, 2, 2, 2]


def test_nothing_moves_where_nothing_is_gained():
    z = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    z[100:] += 50
    found = of(z, (torch.arange(200) >= 100).long(), 2)
    assert move_codes(found.assignment, best_splits(z, found), cheapest_merges(found)) is None


@pytest.mark.parametrize("n_cells", [300, 2_500])  # one block, several blocks
def test_nearest_codes(n_cells):
    z = cells(n_cells)
    codes = z[:40] + 0.1
    assert torch.equal(nearest_codes(z, codes), torch.cdist(z.double(), codes.double()).argmin(1))


@pytest.mark.parametrize("n_passes", [1, 2, 5, 100])
def test_passes_of_kmeans_compare_only_what_has_changed_and_find_what_all_would(
    n_passes, monkeypatch
):
    z, n_codes, compared = cells(3_000), 60, []
    nearest = clustering.nearest_codes

    def counted(z, codes):
        compared.append(len(z))
        return nearest(z, codes)

    monkeypatch.setattr(clustering, "nearest_codes", counted)
    start = assign(z, z[:n_codes])
    found = lloyd(z, start, n_codes, max_passes=n_passes)
    expected = start
    for _ in range(n_passes):
        means = torch.stack([z[expected == code].mean(0) for code in range(n_codes)])
        expected = assign(z, means)
    assert torch.equal(found.assignment, expected)
    if n_passes == 100:
        assert len(compared) < 100
        assert compared[0] == len(z)
        assert max(compared[-3:]) < len(z) / 3


def test_empty_codes_get_the_cells_farthest_from_their_codes_and_no_last_ones():
    z = torch.tensor([[0.0], [0.1], [5.0], [9.0], [20.0]])
    codes = torch.tensor([[0.0], [20.0], [50.0], [60.0]])
    assert fill_empty(z, codes, torch.tensor([0, 0, 0, 1, 1])).tolist() == [0, 0, 3, 2, 1]
    z, codes = torch.tensor([[0.0], [90.0], [1.0]]), torch.tensor([[0.0], [50.0], [70.0]])
    found = fill_empty(z, codes, torch.tensor([0, 1, 0]))
    assert sorted(found.tolist()) == [0, 1, 2]
    assert found[1] == 1
    assignment = torch.tensor([0, 1, 1])
    assert fill_empty(torch.zeros(3, 1), torch.zeros(2, 1), assignment) is assignment
