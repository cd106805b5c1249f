import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from scmetaq.nn import _code_tree, cut_tree, merge_codes, perplexity


@pytest.fixture
def codes():
    return torch.randn(40, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n_groups", [2, 5, 7, 11, 25])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_codes_merge_as_by_ward_and_one_of_many_cells_as_so_many_codes(
    codes, n_groups, is_weighted
):
    n_cells = torch.arange(40) % 4 + 1 if is_weighted else torch.ones(40, dtype=torch.long)
    group = cut_tree(merge_codes(codes, n_cells), n_groups)
    repeated = codes.repeat_interleave(n_cells, 0)
    expected = fcluster(linkage(repeated.numpy(), "ward"), n_groups, "maxclust")
    assert adjusted_rand_score(expected, group.repeat_interleave(n_cells)) == 1


def test_cuts_are_nested_complete_and_numbered_by_first_codes(codes):
    merges = merge_codes(codes, torch.ones(40))
    finer = cut_tree(merges, 40)
    assert torch.equal(finer, torch.arange(40))
    for n_groups in range(39, 0, -1):
        coarser = cut_tree(merges, n_groups)
        assert len(coarser.unique()) == n_groups
        pairs = {(int(a), int(b)) for a, b in zip(finer, coarser, strict=True)}
        assert len(pairs) == n_groups + 1
        finer = coarser
    group = cut_tree(merge_codes(codes, torch.ones(40)), 6).numpy()
    _, first = np.unique(group, return_index=True)
    assert (np.diff(first) > 0).all()


def test_no_merger_costs_less_than_those_before_it(codes):
    merges, n_cells = merge_codes(codes, torch.arange(40) % 4 + 1.0), torch.arange(40) % 4 + 1.0
    means, sizes, costs = list(codes.double()), n_cells.tolist(), []
    for a, b in merges.tolist():
        total = sizes[a] + sizes[b]
        costs.append(sizes[a] * sizes[b] / total * (means[a] - means[b]).square().sum().item())
        means.append((sizes[a] * means[a] + sizes[b] * means[b]) / total)
        sizes.append(total)
    assert (np.diff(costs) > 0).all()


def test_identical_codes_merge_first_and_cuts_stay_nested():
    codes = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).repeat(3, 1) + 1e4
    merges = merge_codes(codes, torch.ones(36))
    groups = cut_tree(merges, 12).view(3, 12)
    assert torch.equal(groups[0], groups[1])
    assert torch.equal(groups[0], groups[2])
    assert sorted(merges.flatten().tolist()) == list(range(70))
    merges = merge_codes(torch.tensor([[0.0], [1.0]]), torch.ones(2))
    assert cut_tree(merges, 1).tolist() == [0, 0]
    assert cut_tree(merges, 2).tolist() == [0, 1]


def test_many_codes_merge_within_regions_first_and_cuts_stay_nested(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    state = 20 * torch.randn(30, 4, generator=generator)
    codes = (state[:, None] + torch.randn(30, 10, 4, generator=generator)).flatten(0, 1)
    weight = torch.rand(300, generator=generator) + 0.1
    expected = merge_codes(codes, weight)
    monkeypatch.setattr(_code_tree, "_MOST_AT_ONCE", 60)
    monkeypatch.setattr(_code_tree, "_CODES_PER_REGION", 100)
    found = merge_codes(codes, weight)
    assert sorted(found.flatten().tolist()) == list(range(598))
    assert (found < torch.arange(300, 599)[:, None]).all()  # only groups that are there by then
    for n_groups in (5, 30, 60, 150):
        groups = [cut_tree(merges, n_groups) for merges in (expected, found)]
        assert adjusted_rand_score(*groups) > (0.999 if n_groups <= 30 else 0.95)


def test_perplexity_counts_codes_in_even_use():
    assert perplexity(torch.ones(8)).item() == pytest.approx(8)
    assert perplexity(torch.tensor([3.0, 3.0, 0.0, 0.0])).item() == pytest.approx(2)
    assert perplexity(torch.tensor([5.0, 0.0])).item() == pytest.approx(1)
    uneven = np.array([0.7, 0.2, 0.1])
    expected = np.exp(-(uneven * np.log(uneven)).sum())
    assert perplexity(torch.tensor(10 * uneven)).item() == pytest.approx(expected)
