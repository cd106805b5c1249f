import copy

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from scmetaq.nn import Codebook, _codebook, codebook_loss, perplexity, squared_distances

DISTANCES = pytest.mark.parametrize("distance", ["cosine", "euclidean"])


def latents(n=200, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def filled(n_codes=7, *, seed=1, **kwargs):
    codebook = Codebook(n_codes, 5, **kwargs)
    codebook.set_codes(latents(n_codes, seed=seed))
    return codebook


def similarity_by_numpy(z, codes, distance):
    z, codes = z.detach().numpy().astype(float), codes.detach().numpy().astype(float)
    if distance == "euclidean":
        return -cdist(z, codes, "sqeuclidean")
    return 1 - cdist(z, codes, "cosine")


@DISTANCES
def test_nearest_code_and_margin_agree_with_numpy(distance):
    codebook, z = filled(distance=distance), latents()
    expected = similarity_by_numpy(z, codebook.codes, distance)
    found = codebook(z)
    second, best = np.sort(expected, axis=1)[:, -2:].T
    np.testing.assert_array_equal(found.assignment, expected.argmax(1))
    np.testing.assert_allclose(found.margin.detach(), best - second, atol=1e-5)
    np.testing.assert_allclose(codebook.similarity(z).detach(), expected, atol=1e-5)
    assert found.assignment.dtype == torch.int64


def test_of_the_cosine_only_the_direction_counts():
    codebook, z = filled(distance="cosine"), latents()
    assert torch.equal(codebook(z).assignment, codebook(7 * z).assignment)


@DISTANCES
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_looking_up_changes_nothing(distance, mode):
    codebook = filled(distance=distance).train(mode)
    before = copy.deepcopy(codebook.state_dict())
    found = codebook(latents())
    codebook.embed(found.assignment)
    codebook.similarity(latents())
    after = codebook.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_train_and_eval_look_up_the_same():
    codebook, z = filled(), latents()
    assert all(map(torch.equal, codebook.train()(z), codebook.eval()(z)))


def test_all_state_is_in_the_state_dict():
    codebook, other = filled(), Codebook(7, 5)
    codebook.update_usage(torch.tensor([1, 1, 2]))
    assert not other.fitted
    other.load_state_dict(codebook.state_dict())
    assert other.fitted
    assert torch.equal(other.usage, codebook.usage)
    assert torch.equal(other(latents()).assignment, codebook(latents()).assignment)


def test_added_codes_are_as_wide_as_the_others_are():
    codebook = filled(3)
    z = latents(90)
    codebook.set_usage(z)
    codebook.set_spread(z)
    before = codebook.spread.clone()
    codebook.add_codes(latents(2, seed=5), torch.tensor([4, 6]))
    assert codebook.spread[:3].equal(before)
    assert codebook.spread[3:].tolist() == [before.median().item()] * 2


def test_codebooks_that_were_saved_without_spreads_are_loaded():
    codebook, old = filled(4), filled(4, seed=2)
    codebook.set_spread(latents())
    state = old.state_dict()
    del state["spread"]
    codebook.load_state_dict(state)
    assert codebook.codes.equal(old.codes)
    assert (codebook.spread == 0).all()


def test_setting_codes_forgets_usage():
    codebook = filled()
    codebook.update_usage(torch.tensor([0, 1]))
    codes = latents(7, seed=3)
    codebook.set_codes(codes)
    assert torch.equal(codebook.codes, codes)
    assert codebook.usage.tolist() == [0] * 7
    assert codebook.fitted


def test_embedding_gathers_codes_and_passes_gradients_to_those_in_use():
    codebook = filled()
    embedded = codebook.embed(torch.tensor([3, 3, 0]))
    assert torch.equal(embedded, codebook.codes[[3, 3, 0]])
    gradient = torch.autograd.grad(embedded.sum(), codebook.codes)[0]
    assert gradient[:, 0].tolist() == [1, 0, 0, 2, 0, 0, 0]


def test_usage_is_a_moving_average():
    codebook = Codebook(3, 5, momentum=0.8)
    codebook.update_usage(torch.tensor([0, 0, 1, 2]))
    torch.testing.assert_close(codebook.usage, 0.2 * torch.tensor([0.5, 0.25, 0.25]))
    codebook.update_usage(torch.tensor([1, 1]))
    torch.testing.assert_close(codebook.usage, torch.tensor([0.08, 0.04 + 0.2, 0.04]))


def test_usage_fills_up_to_one():
    codebook = Codebook(3, 5)
    for _ in range(200):
        codebook.update_usage(torch.tensor([0, 1, 1, 1]))
    torch.testing.assert_close(codebook.usage, torch.tensor([0.25, 0.75, 0.0]))


def test_small_adjustment_moves_hardly_used_codes_onto_cells_and_no_others():
    torch.manual_seed(0)
    codebook, z = filled(4), latents()
    codebook.usage.copy_(torch.tensor([0.5, 0.0, 0.5, 0.0]))
    before = codebook.codes.detach().clone()
    codebook.adjust_small(z)
    assert torch.equal(codebook.codes[[0, 2]], before[[0, 2]])
    to_cells = squared_distances(codebook.codes[[1, 3]], z).amin(1).sqrt()
    assert (to_cells < 0.01).all()  # a step of exp(-0.001) of the way


def test_small_adjustment_draws_cells_that_no_code_serves():
    codebook = Codebook(2, 5, distance="cosine")
    codebook.set_codes(torch.eye(2, 5))
    served, lost = torch.eye(1, 5).repeat(50, 1), -torch.eye(1, 5).repeat(50, 1)
    need = (1 - codebook.similarity(torch.cat([served, lost]))).softmax(1).amax(1).detach()
    torch.manual_seed(0)
    drawn = [_moved_onto(served, lost) for _ in range(100)]
    expected = (need[50:].sum() / need.sum()).item()
    assert np.mean(drawn) == pytest.approx(expected, abs=0.15)


def _moved_onto(served, lost):
    """Whether an unused code went to the side of the lost cells."""
    codebook = Codebook(2, 5, distance="cosine")
    codebook.set_codes(torch.eye(2, 5))
    codebook.usage.copy_(torch.tensor([1.0, 0.0]))
    codebook.adjust_small(torch.cat([served, lost]))
    return bool(codebook.codes[1, 0] < 0)


def test_large_adjustment_waits_until_the_average_has_filled_up():
    codebook, z = filled(4), latents()
    codebook.usage.copy_(torch.tensor([0.9, 0.05, 0.0, 0.0]))
    before = codebook.codes.detach().clone()
    codebook.adjust_large(z)
    assert torch.equal(codebook.codes, before)


def test_large_adjustment_moves_crowded_codes_part_of_the_way_to_a_cell():
    torch.manual_seed(0)
    codebook, z = filled(4), latents()
    usage = torch.tensor([0.97, 0.01, 0.01, 0.01])
    codebook.usage.copy_(usage)
    before = codebook.codes.detach().clone()
    codebook.adjust_large(z)
    assert torch.equal(codebook.codes[1:], before[1:])
    step = torch.exp(-10 * 0.25 / usage[0] - 1e-3)
    reachable = before[0] + step * (z - before[0])
    assert (codebook.codes[0] - reachable).abs().amax(1).min() < 1e-6


@DISTANCES
@pytest.mark.parametrize("n_codes", [2, 20, 150, 199])
def test_claiming_leaves_no_code_without_a_cell(distance, n_codes):
    codebook, z = Codebook(n_codes, 5, distance=distance), latents()
    codebook.set_codes(latents(n_codes, seed=4) + 5)
    n_moved = codebook.claim_cells(z)
    assert len(codebook(z).assignment.unique()) == n_codes
    assert n_moved > 0 or n_codes == 2


@DISTANCES
def test_claiming_leaves_a_full_codebook_alone(distance):
    codebook, z = Codebook(20, 5, distance=distance), latents()
    codebook.set_codes(z[:20])
    assert codebook.claim_cells(z) == 0
    assert torch.equal(codebook.codes, z[:20])


def test_codebook_loss_is_the_mean_square_and_holds_the_cells():
    z = latents(3).requires_grad_()
    z_q = latents(3, seed=1).requires_grad_()
    loss = codebook_loss(z, z_q)
    expected = ((z_q - z).detach().numpy() ** 2).mean(1)
    np.testing.assert_allclose(loss.detach(), expected, rtol=1e-6)
    loss.sum().backward()
    assert z.grad is None
    torch.testing.assert_close(z_q.grad, 2 * (z_q - z).detach() / 5)


def test_perplexity_counts_codes_in_even_use():
    assert perplexity(torch.ones(8)).item() == pytest.approx(8)
    assert perplexity(torch.tensor([3.0, 3.0, 0.0, 0.0])).item() == pytest.approx(2)
    assert perplexity(torch.tensor([5.0, 0.0])).item() == pytest.approx(1)
    uneven = np.array([0.7, 0.2, 0.1])
    expected = np.exp(-(uneven * np.log(uneven)).sum())
    assert perplexity(torch.tensor(10 * uneven)).item() == pytest.approx(expected)


def test_cells_of_each_code_are_counted():
    codebook = Codebook(4, 2)
    found = codebook.count_cells(torch.tensor([3, 0, 3, 3]))
    assert found.tolist() == [1, 0, 0, 3]


def test_the_host_knows_whether_there_are_codes():
    codebook, other = Codebook(4, 2), Codebook(4, 2)
    codebook.set_codes(torch.randn(4, 2))
    other.load_state_dict(codebook.state_dict())
    assert codebook.is_fitted
    assert other.is_fitted
    codebook.forget_codes()
    assert not codebook.is_fitted
    assert not codebook.fitted


def test_groups_of_codes_are_looked_up():
    torch.manual_seed(0)
    codebook, z = Codebook(6, 3), torch.randn(50, 3)
    codebook.set_codes(torch.randn(6, 3))
    group = torch.tensor([0, 1, 0, 2, 1, 1])
    found = codebook.lookup_groups(z, group)
    assert torch.equal(found.assignment, group[codebook(z).assignment])
    similarity = codebook.similarity(z)
    of_group = torch.stack([similarity[:, group == g].amax(1) for g in range(3)], 1)
    best = of_group.topk(2, dim=1).values
    torch.testing.assert_close(found.margin, best[:, 0] - best[:, 1])
    alone = codebook.lookup_groups(z, torch.arange(6))
    torch.testing.assert_close(alone.margin, codebook(z).margin)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_assigning_in_blocks_is_looking_up(monkeypatch, distance):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(50, 4, generator=generator)
    codebook = Codebook(6, 4, distance=distance)
    codebook.set_codes(z[:6].clone())
    whole = codebook(z).assignment
    monkeypatch.setattr(_codebook, "_MOST_ENTRIES", 42)  # seven cells at a time
    values, assignment = codebook.assign(z)
    assert torch.equal(assignment, whole)
    torch.testing.assert_close(values, codebook.preference(z).amax(1))


def test_claiming_ends_where_there_are_too_few_distinct_cells():
    z = torch.eye(3).repeat(20, 1)
    codebook = Codebook(8, 3)
    codebook.set_codes(torch.ones(8, 3) + 0.1 * torch.arange(8)[:, None])
    codebook.claim_cells(z)
    assert len(codebook.assign(z)[1].unique()) == 3
