import numpy as np
import pytest
import torch

from scmetaq.nn import _regions, cluster, cluster_by_region, squared_distances
from scmetaq.nn._regions import _shares, means_of_more
from scmetaq.nn._small_groups import set_groups_apart

STATES = torch.arange(6)
K = 160


@pytest.fixture(scope="module")
def z():
    """Cells of states of uneven frequency along arcs, in noise of further dimensions."""
    rng = np.random.default_rng(0)
    state = rng.choice(12, size=6_000, p=rng.dirichlet(np.ones(12)))
    centre, arc = 4 * rng.normal(size=(12, 6)), 3 * rng.normal(size=(12, 6))
    cells = centre[state] + rng.random((6_000, 1)) * arc[state] + rng.normal(size=(6_000, 6)) / 2
    return torch.from_numpy(np.hstack([cells, rng.normal(size=(6_000, 10)) / 2])).float()


def error(z, codes):
    return squared_distances(z, codes).amin(1).mean().item()


@pytest.fixture(autouse=True)
def _several_regions(monkeypatch):
    monkeypatch.setattr(_regions, "_CODES_PER_REGION", 20)


def found(z, **kwargs):
    return cluster_by_region(z, K, states=STATES, **{"evenness": 0.2, **kwargs})


@pytest.fixture
def by_region(z):
    return found(z)


def test_the_error_is_nearly_that_of_a_search_among_all_codes(z, by_region):
    at_once = set_groups_apart(z, cluster(z, K, evenness=0.2))
    assert error(z, by_region.codes) < 1.01 * error(z, at_once.codes)
    sizes = [of.assignment.bincount(minlength=K).double() for of in (by_region, at_once)]
    assert sizes[0].std() < 1.1 * sizes[1].std()


def test_every_code_is_the_mean_of_its_cells_which_are_nearest_to_it(z, by_region):
    size = by_region.assignment.bincount(minlength=K)
    assert size.min() > 0
    nearest = squared_distances(z, by_region.codes).argmin(1)
    assert (nearest == by_region.assignment).double().mean() > 0.98
    means = torch.zeros(K, z.shape[1]).index_add_(0, by_region.assignment, z) / size[:, None]
    torch.testing.assert_close(by_region.codes, means, rtol=1e-4, atol=1e-5)
    own = squared_distances(z, by_region.codes).gather(1, by_region.assignment[:, None])
    assert by_region.error == pytest.approx(own.mean().item(), rel=1e-4)


def test_the_same_seed_gives_the_same_codes_also_in_half_precision(z, by_region):
    assert torch.equal(found(z).codes, by_region.codes)
    assert not torch.equal(found(z, seed=1).codes, by_region.codes)
    half = found(z.half())
    assert half.codes.dtype == torch.float
    assert half.error == pytest.approx(by_region.error, rel=0.005)


def test_codes_move_between_regions_and_sizes_become_even(z, by_region, monkeypatch):
    sizes = [found(z, evenness=of).assignment.bincount().double() for of in (0.2, 0.0)]
    assert sizes[0].std() < 0.9 * sizes[1].std()
    start = torch.cat([z[: K // 2], z[0] + torch.randn(K // 2, 16) / 9])  # half in one place
    with_moves = found(z, start=start).error
    assert with_moves < 1.03 * by_region.error
    monkeypatch.setattr(_regions, "_MAX_MOVES", 0)
    assert with_moves < 0.98 * found(z, start=start).error


def test_a_small_group_apart_gets_a_code(z):
    rare = z[:8] * 0.1
    rare[:, 8] += 9.0  # not in the states, by which regions of cells are found
    with_rare = torch.cat([z, rare])
    assignment = found(with_rare).assignment
    assert not np.isin(assignment[:-8].numpy(), assignment[-8:].unique().numpy()).any()


def test_many_codes_are_looked_up_through_the_index(z, by_region, monkeypatch):
    monkeypatch.setattr(_regions, "FEWEST_CODES", 2)
    assert found(z).error == pytest.approx(by_region.error, rel=0.01)


@pytest.mark.parametrize("total", [5, 17, 60])
def test_shares_are_at_least_one_fit_the_cells_and_add_up(total):
    most = np.array([30, 4, 20, 2, 9])
    shares = _shares(np.array([1.0, 0.0, 50.0, 3.0, 8.0]), total, most=most)
    assert shares.sum() == total
    assert ((shares >= 1) & (shares <= most)).all()
    assert _shares(np.zeros(3), total, most=np.full(3, 99)).sum() == total
    in_proportion = _shares(np.array([1.0, 2, 5]), 80, most=np.full(3, 99))
    np.testing.assert_array_equal(in_proportion, [10, 20, 50])


def test_regions_are_searched_by_whoever_is_given(z, by_region):
    done = []

    def each(function, calls, n_calls, description):
        calls = list(calls)
        assert len(calls) == n_calls
        done.append((description, n_calls))
        return [function(*call) for call in reversed(calls)][::-1]

    assert torch.equal(found(z, each=each).codes, by_region.codes)
    assert done[:3] == [("Weighing regions", 8), ("Finding codes", 8), ("Assigning cells", 1)]
    assert {"Moving codes", "Evening sizes"} < {description for description, _ in done}


def test_a_code_that_no_cell_is_nearest_to_stays_where_it_is():
    codes = torch.tensor([[0.0, 0.0], [9.0, 9.0]])
    found = means_of_more(codes, [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])])
    assert found.tolist() == [[0.5, 0.5], [9.0, 9.0]]
