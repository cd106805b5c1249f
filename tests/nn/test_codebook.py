import copy

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from scmetaq.nn import (
    Codebook,
    _codebook,
    codebook_loss,
    cut_tree,
    distances_without,
    initial_codes,
    merge_codes,
)

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


@pytest.mark.parametrize("has_index", [False, True])
def test_dimensions_count_by_their_weights_and_weights_of_one_change_no_bit(has_index, monkeypatch):
    if has_index:
        monkeypatch.setattr(_codebook, "FEWEST_CODES", 2)
    codebook, z = filled(40).eval(), latents()
    weight = torch.ones(200, 5)
    weight[::2] = torch.tensor([0, 2.0, 0.5, 0, 1])
    found, plain = codebook(z, weight=weight), codebook(z)
    assert all(torch.equal(of[1::2], before[1::2]) for of, before in zip(found, plain, strict=True))
    square, codes = weight[0].sqrt(), codebook.codes.detach()
    expected = np.sort(cdist(z[::2] * square, codes * square, "sqeuclidean"), 1)
    own = ((z - codes[found.assignment]).square() * weight).sum(1)[::2]
    np.testing.assert_allclose(own, expected[:, 0], atol=1e-4)
    np.testing.assert_allclose(
        found.margin.detach()[::2], expected[:, 1] - expected[:, 0], atol=1e-4
    )
    assert (found.assignment != plain.assignment)[::2].any()
    assert torch.equal(codebook.nearest(z, 3, weight)[1][:, 0], found.assignment)


@DISTANCES
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_looking_up_changes_nothing_and_knows_no_mode(distance, mode):
    codebook, z = filled(distance=distance).train(mode), latents()
    before = copy.deepcopy(codebook.state_dict())
    found = codebook(z)
    codebook.embed(found.assignment)
    codebook.similarity(z)
    after = codebook.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(map(torch.equal, found, codebook.train(not mode)(z)))
    if distance == "cosine":  # of which only the direction counts
        assert torch.equal(found.assignment, codebook(7 * z).assignment)


def described(n_codes=7, n_cells=200, **kwargs):
    """A codebook that knows of the cells that it was fitted to, and the cells."""
    codebook, z = filled(n_codes, **kwargs), latents(n_cells)
    codebook.describe_cells(z, codebook.claim_cells(z), torch.arange(3))
    return codebook, z


@pytest.mark.parametrize("is_bounded", [False, True])
def test_all_state_is_in_the_state_dict(is_bounded):
    codebook, z = described()
    if is_bounded:
        codebook.set_offsets(torch.arange(7.0) / 10)
    other = Codebook(7, 5)
    assert not other.is_fitted
    other.load_state_dict(codebook.state_dict())
    assert other.is_fitted
    assert other.is_bounded == is_bounded
    assert all(map(torch.equal, other.state, codebook.state))
    assert torch.equal(other(z).assignment, codebook(z).assignment)


def test_the_cells_of_a_codebook_are_described():
    codebook, z = described()
    found = codebook(z).assignment
    assert codebook.n_cells == 200
    torch.testing.assert_close(codebook.usage, found.bincount(minlength=7) / 200)
    means = codebook.codes.detach()
    own = (z - means[found]).square().sum(1).sqrt()
    overall = own.median()
    for code in range(7):
        n, median = (found == code).sum(), own[found == code].median()
        expected = (n * median + 10 * overall) / (n + 10)
        torch.testing.assert_close(codebook.typical_distance[code], expected)
    apart = distances_without(z[:, :3], means[:, :3], found)
    enough = torch.isin(found, (found.bincount(minlength=7) >= 5).nonzero()[:, 0])
    expected = torch.quantile(apart[enough], torch.tensor([0, 0.5, 1]), interpolation="nearest")
    torch.testing.assert_close(codebook.distance_quantiles[[0, 500, 1000]], expected)


def test_added_codes_have_the_typical_distance_of_the_others_and_set_ones_forget_all_cells():
    codebook, _ = described(3, 90)
    before = codebook.typical_distance.clone()
    codebook.add_codes(latents(2, seed=5), torch.tensor([9, 18]))
    assert codebook.typical_distance[:3].equal(before)
    assert codebook.typical_distance[3:].tolist() == [before.median().item()] * 2
    torch.testing.assert_close(codebook.usage[3:], torch.tensor([0.1, 0.2]))
    codebook, _ = described()
    codebook.set_offsets(torch.arange(7.0))
    codes = latents(7, seed=3)
    codebook.set_codes(codes)
    assert torch.equal(codebook.codes, codes)
    assert codebook.usage.tolist() == [0] * 7
    assert not codebook.is_bounded
    assert codebook.is_fitted


def test_losses_hold_the_cells_and_codes_in_use_learn():
    codebook = filled()
    embedded = codebook.embed(torch.tensor([3, 3, 0]))
    assert torch.equal(embedded, codebook.codes[[3, 3, 0]])
    gradient = torch.autograd.grad(embedded.sum(), codebook.codes)[0]
    assert gradient[:, 0].tolist() == [1, 0, 0, 2, 0, 0, 0]
    z = latents(3).requires_grad_()
    z_q = latents(3, seed=1).requires_grad_()
    loss = codebook_loss(z, z_q)
    expected = ((z_q - z).detach().numpy() ** 2).mean(1)
    np.testing.assert_allclose(loss.detach(), expected, rtol=1e-6)
    loss.sum().backward()
    assert z.grad is None
    torch.testing.assert_close(z_q.grad, 2 * (z_q - z).detach() / 5)


@DISTANCES
@pytest.mark.parametrize("n_codes", [2, 20, 150, 199])
def test_claiming_leaves_no_code_without_a_cell_and_a_full_codebook_alone(distance, n_codes):
    codebook, z = Codebook(n_codes, 5, distance=distance), latents()
    codebook.set_codes(latents(n_codes, seed=4) + 5)
    found = codebook.claim_cells(z)
    assert torch.equal(found, codebook(z).assignment)
    assert len(found.unique()) == n_codes
    codebook.set_codes(latents(n_codes, seed=4) + 5)
    assert len(codebook.claim_cells(z.half()).unique()) == n_codes
    codebook.set_codes(z[:n_codes])
    codebook.claim_cells(z)
    assert torch.equal(codebook.codes, z[:n_codes])


def test_claiming_takes_no_last_cell_and_ends_where_there_are_too_few_distinct_cells():
    """The cell that is farthest from its code is the only one of it."""
    codebook, z = Codebook(3, 1), torch.tensor([[0.0], [1.0], [2.0], [100.0]])
    codebook.set_codes(torch.tensor([[0.0], [60.0], [-500.0]]))
    assert codebook.claim_cells(z).tolist() == [0, 0, 2, 1]
    assert codebook.codes[:, 0].tolist() == [0, 60, 2]
    codebook, z = Codebook(8, 3), torch.eye(3).repeat(20, 1)
    codebook.set_codes(torch.ones(8, 3) + 0.1 * torch.arange(8)[:, None])
    codebook.claim_cells(z)
    assert len(codebook.assign(z)[1].unique()) == 3


def test_groups_of_codes_are_looked_up():
    codebook, z = filled(6), latents(50)
    group = torch.tensor([0, 1, 0, 2, 1, 1])
    found = codebook(z, group)
    assert torch.equal(found.assignment, group[codebook(z).assignment])
    similarity = codebook.similarity(z)
    of_group = torch.stack([similarity[:, group == g].amax(1) for g in range(3)], 1)
    best = of_group.topk(2, dim=1).values
    torch.testing.assert_close(found.margin, best[:, 0] - best[:, 1])
    alone = codebook(z, torch.arange(6))
    torch.testing.assert_close(alone.margin, codebook(z).margin)


@DISTANCES
def test_assigning_in_blocks_is_looking_up(monkeypatch, distance):
    codebook, z = filled(distance=distance), latents(50)
    whole = codebook(z).assignment
    monkeypatch.setattr(_codebook, "_MOST_ENTRIES", 49)  # seven cells at a time
    values, assignment = codebook.assign(z)
    assert torch.equal(assignment, whole)
    torch.testing.assert_close(values, codebook.preference(z).amax(1))
    assert codebook.count_cells(torch.tensor([3, 0, 3, 3])).tolist() == [1, 0, 0, 3, 0, 0, 0]


INITS = ["kmeans", "random", "geometric"]


@pytest.fixture
def z(rng):
    found = rng.normal(size=(300, 6)) + 5 * rng.integers(0, 3, size=(300, 1))
    return torch.from_numpy(found.astype(np.float32))


@pytest.mark.parametrize("init", INITS)
def test_starts_are_distinct_repeatable_and_leave_the_global_random_state(z, init):
    np.random.seed(42)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for n_codes in (2, 17, 150):
        codes = initial_codes(z, n_codes, init)
        assert codes.shape == (n_codes, 6)
        assert len(np.unique(codes, axis=0)) == n_codes
    first, again, other = (initial_codes(z, 17, init, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("init", ["random", "geometric"])
def test_codes_are_cells_or_the_means_of_scikit_learn(z, init):
    known = {tuple(row) for row in z.tolist()}
    assert all(tuple(code) in known for code in initial_codes(z, 17, init).tolist())
    expected = KMeans(17, n_init=1, random_state=5).fit(z.numpy()).cluster_centers_
    np.testing.assert_allclose(initial_codes(z, 17, "kmeans", seed=5), expected, rtol=1e-6)


def test_a_geometric_sketch_covers_rare_cells(rng):
    crowd, rare = rng.normal(size=(990, 2)), rng.normal(size=(10, 2)) + 50
    codes = initial_codes(torch.from_numpy(np.vstack([crowd, rare])), 20, "geometric")
    assert (codes[:, 0] > 25).sum() > 1  # at random: 0.2 expected


@DISTANCES
@pytest.mark.parametrize("is_bounded", [False, True])
def test_many_codes_are_looked_up_in_the_nearest_regions(distance, is_bounded, monkeypatch):
    """As among all codes for nearly all cells, whatever cells come with them; saved and loaded."""
    monkeypatch.setattr(_codebook, "FEWEST_CODES", 2)
    codes, z = 3 * latents(400, seed=1), 3 * latents(3_000)
    codebook = Codebook(400, 5, distance=distance)
    codebook.set_codes(codes)
    if is_bounded:
        codebook.set_offsets(torch.rand(400, generator=torch.Generator().manual_seed(0)) / 50)
    exact = codebook.train()(z)
    found = codebook.eval()(z)
    assert (found.assignment == exact.assignment).double().mean() > 0.995
    is_close = torch.isclose(found.margin, exact.margin.detach(), atol=1e-4)
    assert is_close.double().mean() > 0.98
    assert all(map(torch.equal, codebook(z[7:11]), (of[7:11] for of in found)))
    best, assignment = codebook.assign(z)
    assert torch.equal(assignment, found.assignment)
    is_close = torch.isclose(best, codebook.preference(z).amax(1), atol=1e-4)
    assert is_close.double().mean() > 0.995
    other = Codebook(400, 5, distance=distance)
    other.load_state_dict(codebook.state_dict())
    assert all(map(torch.equal, other.eval()(z), found))


@pytest.mark.parametrize("n_groups", [2, 9, 150])
def test_of_groups_of_many_codes_the_best_code_of_each_counts(n_groups, monkeypatch):
    monkeypatch.setattr(_codebook, "FEWEST_CODES", 2)
    codebook, z = Codebook(400, 5).eval(), 3 * latents(2_000)
    codebook.set_codes(3 * latents(400, seed=1))
    group = cut_tree(merge_codes(codebook.codes, torch.ones(400)), n_groups)
    found, exact = codebook(z, group), codebook.train()(z, group)
    least = 0.999 if n_groups == 2 else 0.99
    assert (found.assignment == exact.assignment).double().mean() >= least
    is_close = torch.isclose(found.margin, exact.margin.detach(), atol=1e-4)
    assert is_close.double().mean() >= least - 0.02


def test_regions_follow_the_codes(monkeypatch):
    monkeypatch.setattr(_codebook, "FEWEST_CODES", 2)
    codebook, z = Codebook(100, 5).eval(), latents(300)
    codebook.set_codes(latents(100, seed=1))
    before = codebook(z).assignment
    codebook.set_codes(latents(100, seed=1).flip(0))
    assert torch.equal(codebook(z).assignment, 99 - before)
    codebook.describe_cells(z, before, torch.arange(5))
    codebook.add_codes(latents(2, seed=5) + 30, torch.tensor([3, 4]))
    assert codebook(latents(2, seed=5) + 30).assignment.tolist() == [100, 101]
    with torch.no_grad():
        codebook.codes[0] = z[0]
    assert codebook(z[:1]).assignment == 0
    codebook.set_codes(codebook.codes.detach()[:102])
    few = Codebook(4, 5)
    monkeypatch.setattr(_codebook, "FEWEST_CODES", 5)
    few.set_codes(z[:4])
    assert len(few.region) == 0


def test_codes_that_claim_cells_are_found_by_them_also_where_there_are_many(monkeypatch):
    monkeypatch.setattr(_codebook, "FEWEST_CODES", 2)
    z, codebook = 3 * latents(2_000), Codebook(300, 5).eval()
    far = latents(50, seed=3) + 80  # a region of its own, without cells
    codebook.set_codes(torch.cat([3 * latents(250, seed=1), far]))
    n_rounds, real = [], codebook.assign
    monkeypatch.setattr(codebook, "assign", lambda z: n_rounds.append(1) or real(z))
    found = codebook.claim_cells(z)
    assert len(found.unique()) == 300
    assert len(n_rounds) < 10
    assert torch.equal(codebook(z).assignment, found)


def test_merged_codes_are_means_by_usage():
    codebook = Codebook(3, 2)
    codebook.set_codes(torch.tensor([[9.0, 9.0], [0.0, 0.0], [4.0, 8.0]]))
    codebook.set_state(codebook.state._replace(usage=torch.tensor([0.2, 0.6, 0.2])))
    found = codebook.merged(torch.tensor([0, 1, 1]), 2)
    torch.testing.assert_close(found, torch.tensor([[9.0, 9.0], [1.0, 2.0]]))
