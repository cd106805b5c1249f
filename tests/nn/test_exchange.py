import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from scmetaq.nn import exchange, squared_distances
from scmetaq.nn._exchange import Partition, fill_empty, nearest, quantization_error


def cells(n=400, d=6, seed=0):
    """Cells in a few blurred states of uneven size."""
    rng = np.random.default_rng(seed)
    centre = 3 * rng.normal(size=(8, d))
    state = rng.choice(8, size=n, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02])
    return torch.from_numpy(centre[state] + rng.normal(size=(n, d))).float()


def assign(z, codes):
    return squared_distances(z, codes).argmin(1)


def loss(z, codes):
    return squared_distances(z.double(), codes.double()).amin(1).sum().item()


def run(z, codes, seed=0, **kwargs):
    return exchange(z, codes, generator=torch.Generator().manual_seed(seed), **kwargs)


def kmeans(z, n_codes, seed=0):
    fitted = KMeans(n_codes, n_init=1, random_state=seed).fit(z.numpy())
    return torch.from_numpy(fitted.cluster_centers_), fitted.inertia_


@pytest.mark.parametrize("seed", range(4))
def test_even_sizes_cost_little(seed):
    z = cells(2_000, seed=seed)
    plain = run(z, z[:40])
    even = run(z, plain, evenness=1.0)
    spread = [torch.bincount(assign(z, codes)).double().std() for codes in (plain, even)]
    assert spread[1] < 0.97 * spread[0]
    assert loss(z, even) < 1.02 * loss(z, plain)
    means = torch.stack([z[assign(z, even) == k].mean(0) for k in range(40)])
    torch.testing.assert_close(even, means, rtol=1e-4, atol=1e-4)


def test_single_cells_join_no_crowd_for_evenness_and_leave_none_empty():
    z = torch.cat([cells(200), 50 + torch.arange(5.0)[:, None].expand(5, 6)])
    codes = run(z, z[:: 205 // 12][:12], evenness=5.0)
    assert len(assign(z, codes).unique()) == 12


@pytest.mark.parametrize("n_codes", [2, 15, 60])
@pytest.mark.parametrize("seed", range(4))
def test_never_worse_than_the_kmeans_it_starts_from(n_codes, seed):
    z = cells(seed=seed)
    codes, inertia = kmeans(z, n_codes, seed)
    assert loss(z, run(z, codes, seed)) <= inertia * (1 + 1e-5)


def test_leaves_local_optima_where_kmeans_stops():
    ratios = []
    for seed in range(8):
        z = cells(seed=seed)
        codes, inertia = kmeans(z, 40, seed)
        ratios.append(loss(z, run(z, codes)) / inertia)
    assert np.median(ratios) < 0.995


@pytest.mark.parametrize("start", ["kmeans", "cells", "far away", "all the same"])
def test_result_is_stable_and_every_code_has_a_cell(start):
    z = cells()
    codes = {
        "kmeans": kmeans(z, 30)[0],
        "cells": z[:30],
        "far away": z[:30] + 100,
        "all the same": z[:1].repeat(30, 1),
    }[start]
    found = run(z, codes)
    assignment = assign(z, found)
    assert len(assignment.unique()) == 30
    means = torch.stack([z[assignment == k].mean(0) for k in range(30)])
    torch.testing.assert_close(found, means, rtol=1e-4, atol=1e-4)


def test_no_exchange_of_a_single_cell_would_help():
    """The Hartigan-Wong condition, recomputed from the result."""
    z = cells(150)
    codes = run(z, z[:10])
    assignment = assign(z, codes)
    size = torch.bincount(assignment).float()
    distance = squared_distances(z, codes)
    own = distance.gather(1, assignment[:, None])[:, 0]
    leave = own * size[assignment] / (size[assignment] - 1)
    join = distance * size / (size + 1)
    join.scatter_(1, assignment[:, None], torch.inf)
    gains = (leave - join.amin(1))[size[assignment] > 1]
    assert (gains > 1e-3 * own.mean()).float().mean() < 0.05


@pytest.mark.parametrize("n_codes", [2, 399, 400])
def test_extreme_numbers_of_codes(n_codes):
    z = cells()
    codes = run(z, z[:n_codes])
    assert len(assign(z, codes).unique()) == n_codes
    if n_codes == 400:
        assert loss(z, codes) == pytest.approx(0, abs=1e-3)


def test_one_seed_one_result():
    z = cells()
    codes = kmeans(z, 30)[0]
    assert torch.equal(run(z, codes, 3), run(z, codes, 3))


def test_inputs_and_global_randomness_are_left_alone():
    z, codes = cells(), cells()[:30]
    kept = z.clone(), codes.clone()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    run(z, codes)
    assert torch.equal(z, kept[0])
    assert torch.equal(codes, kept[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_duplicate_cells_do_no_harm():
    z = cells(50).repeat(4, 1)
    codes = run(z, z[:20])
    assert torch.isfinite(codes).all()
    assert len(assign(z, codes).unique()) == 20


def test_no_pass_still_settles():
    z = cells()
    codes = run(z, z[:30], max_passes=0)
    lloyd = KMeans(30, init=z[:30].numpy(), n_init=1, tol=0).fit(z.numpy())
    assert loss(z, codes) == pytest.approx(lloyd.inertia_, rel=0.02)


def test_filling_gives_empty_codes_the_worst_served_cells():
    z = torch.tensor([[0.0], [0.1], [5.0], [9.0], [20.0]])
    codes = torch.tensor([[0.0], [20.0], [50.0], [60.0]])
    found = fill_empty(z, codes, torch.tensor([0, 0, 0, 1, 1]))
    assert found.tolist() == [0, 0, 3, 2, 1]


def test_filling_never_empties_another_code():
    z = torch.tensor([[0.0], [90.0], [1.0]])
    codes = torch.tensor([[0.0], [50.0], [70.0]])
    found = fill_empty(z, codes, torch.tensor([0, 1, 0]))
    assert sorted(found.tolist()) == [0, 1, 2]
    assert found[1] == 1


def test_filling_a_full_codebook_changes_nothing():
    assignment = torch.tensor([0, 1, 1])
    assert fill_empty(torch.zeros(3, 1), torch.zeros(2, 1), assignment) is assignment


def squares(rows):
    return (rows - rows.mean(0)).square().sum()


@pytest.mark.parametrize("worth", [0.0, 2.0])
def test_moves_lower_the_loss_by_what_they_cost_less(worth):
    """A cell goes where the sum of squares about the means, less the entropy, falls most."""
    z = cells(60).double()
    assignment = torch.arange(60) % 7
    state = Partition(z, assignment.clone(), 7, worth=worth)

    def loss_of(part):
        return squares(part) + worth * len(part) * np.log(len(part))

    def loss_with(code):
        parts = torch.where(torch.arange(60) == 11, code, assignment)
        return sum(loss_of(z[parts == k]) for k in range(7))

    losses = torch.stack([loss_with(code) for code in range(7)])
    assert state.improve(torch.tensor([11])) == 1
    assert state.assignment[11] == losses.argmin()
    others = losses[torch.arange(7) != assignment[11]]
    kept = torch.arange(len(z)) != 11
    without = sum(loss_of(z[kept & (assignment == k)]) for k in range(7))
    expected = (others.min() - without) / (losses[assignment[11]] - without)
    torch.testing.assert_close(state.rivalry[11], expected)


@pytest.mark.parametrize("n_cells", [300, 2_500])  # one block, several blocks
def test_nearest_codes_and_their_error(n_cells):
    z = cells(n_cells)
    codes = z[:40] + 0.1
    distance = torch.cdist(z.double(), codes.double()).square()
    assert torch.equal(nearest(z, codes), distance.argmin(1))
    assert quantization_error(z, codes) == pytest.approx(distance.amin(1).mean().item(), rel=1e-4)
