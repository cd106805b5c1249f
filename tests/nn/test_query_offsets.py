import pytest
import torch

from scmetaq.nn import MixtureCorrection, fit_mixture, fit_query_offsets


def simulate(n, added, seed):
    """Three states; what a condition adds differs between them a little."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.arange(n) % 3
    noise = 0.2 * torch.randn(n, 6, generator=generator)
    return state, 3 * torch.eye(3, 6)[state] + added[state] + noise


@pytest.fixture(scope="module")
def added():
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(3, 1, 6, generator=generator)
    return shared + 0.3 * torch.randn(3, 3, 6, generator=generator)  # condition x state x D


@pytest.fixture(scope="module")
def reference(added):
    """A correction that was fitted to two conditions, and its cells."""
    parts = [simulate(300, added[a], a) for a in range(2)]
    values = torch.cat([values for _, values in parts])
    conditions = torch.arange(2).repeat_interleave(300)[:, None]
    mixture = fit_mixture(
        values, conditions, [2], start=values[:3], generator=torch.Generator().manual_seed(0)
    )
    correction = MixtureCorrection(3, [2], 6)
    correction.set_mixture(mixture)
    return correction, torch.cat([state for state, _ in parts]), correction(values, conditions)


def extended(reference, n_categories=(3,)):
    correction = MixtureCorrection(3, list(n_categories), 6)
    correction.take_over(reference)
    return correction


def test_new_cells_come_to_those_of_their_state(reference, added):
    known, state_of_known, corrected_known = reference
    state, values = simulate(120, added[2], 7)
    conditions = torch.full((120, 1), 2)
    correction = extended(known)

    def agreement():
        found = correction(values, conditions)
        nearest = torch.cdist(found, corrected_known).argmin(1)
        return (state_of_known[nearest] == state).float().mean(), found

    before, _ = agreement()
    fit_query_offsets(correction, values, conditions, new=torch.tensor([2]))
    after, found = agreement()
    assert after == 1 >= before
    centres = torch.stack([corrected_known[state_of_known == s].mean(0) for s in range(3)])
    means = torch.stack([found[state == s].mean(0) for s in range(3)])
    # of the three units and more that the condition adds
    assert (means - centres).norm(dim=1).max() < 0.5


def centres_of(corrected, state):
    return torch.stack([corrected[state == s].mean(0) for s in range(3)])


def test_a_state_that_the_reference_lacks_is_not_taken_for_a_known_one(reference, added):
    known, state_of_known, corrected_known = reference
    state, values = simulate(150, added[2], 7)
    is_new = torch.arange(150) % 4 == 0  # on average; one state has more of them than others
    values[is_new] += 3 * torch.eye(6)[4] - 3 * torch.eye(3, 6)[state[is_new]]
    conditions = torch.full((150, 1), 2)
    correction = extended(known)
    fit_query_offsets(correction, values, conditions, new=torch.tensor([2]))
    found, centres = correction(values, conditions), centres_of(corrected_known, state_of_known)
    assert (centres_of(found[~is_new], state[~is_new]) - centres).norm(dim=1).max() < 0.5
    assert torch.cdist(found[is_new], centres).min() > 1.5
    assert (torch.cdist(found[~is_new], centres).argmin(1) == state[~is_new]).all()


def test_a_known_state_may_be_moved_in_a_way_of_its_own(reference, added):
    known, state_of_known, corrected_known = reference
    own_way = added[2].clone()
    own_way[1] += torch.tensor([0.0, 0.0, 0.0, 1.5, 0.0, 0.0])
    state, values = simulate(150, own_way, 7)
    conditions = torch.full((150, 1), 2)
    correction = extended(known)
    fit_query_offsets(correction, values, conditions, new=torch.tensor([2]))
    found, centres = correction(values, conditions), centres_of(corrected_known, state_of_known)
    assert (centres_of(found, state) - centres).norm(dim=1).max() < 0.7


def test_of_a_few_cells_all_count_alike(reference, added):
    """Two cells cannot be told which of them is the odd one."""
    known, _, _ = reference
    values = simulate(4, added[2], 7)[1][[0, 3]]  # two cells of one state
    correction = extended(known)
    fit_query_offsets(correction, values, torch.full((2, 1), 2), new=torch.tensor([2]))
    place = correction.centroids[correction.shares(values[:1]).argmax()]
    # a ridge as heavy as ten cells leaves a sixth of the mean, and so it is again of the cluster
    share = (correction.offsets[:, 2] @ (values - place).mean(0)) / (values - place).mean(
        0
    ).norm() ** 2
    assert share.max() == pytest.approx(1 / 6 + (5 / 6) * 1 / 6, abs=0.05)


def test_a_known_condition_that_goes_with_the_new_state_does_not_hide_it(reference, added):
    """Known categories divide cells for what they add, not for what most are like."""
    known, state_of_known, corrected_known = reference
    correction = MixtureCorrection(3, [3, 2], 6)
    correction.centroids.copy_(known.centroids)
    correction.offsets[:, :2] = known.offsets
    correction.log_penalty[:, :2] = known.log_penalty
    state, values = simulate(160, added[2], 7)
    is_new = torch.arange(160) % 4 == 0
    values[is_new] += 3 * torch.eye(6)[4] - 3 * torch.eye(3, 6)[state[is_new]]
    conditions = torch.stack([torch.full((160,), 2), is_new.long()], 1)
    fit_query_offsets(correction, values, conditions, new=torch.tensor([2]))
    found, centres = correction(values, conditions), centres_of(corrected_known, state_of_known)
    assert (centres_of(found[~is_new], state[~is_new]) - centres).norm(dim=1).max() < 0.5
    assert torch.cdist(found[is_new], centres).min() > 1.5


def test_what_was_known_stays_bit_identical(reference, added):
    known, _, _ = reference
    _, values = simulate(60, added[2], 7)
    correction = extended(known)
    fit_query_offsets(correction, values, torch.full((60, 1), 2), new=torch.tensor([2]))
    assert torch.equal(correction.centroids, known.centroids)
    assert torch.equal(correction.offsets[:, :2], known.offsets)
    assert torch.equal(correction.log_penalty[:, :2], known.log_penalty)
    assert correction.offsets[:, 2].abs().max() > 0.1


def test_cells_of_known_conditions_are_corrected_as_before(reference, added):
    known, _, _ = reference
    _, values = simulate(60, added[1], 3)
    conditions = torch.ones(60, 1, dtype=torch.long)
    correction = extended(known)
    assert torch.equal(correction(values, conditions), known(values, conditions))


@pytest.mark.parametrize(("n", "low", "high"), [(1, 0.05, 0.3), (12, 0.4, 0.8), (60, 0.8, 1.1)])
def test_what_is_told_from_few_cells_is_little(reference, added, n, low, high):
    """The ridge counts as much as ten cells: nothing is invented from nothing."""
    known, _, _ = reference
    _, values = simulate(n, added[2], 7)
    conditions = torch.full((n, 1), 2)
    correction = extended(known)
    fit_query_offsets(correction, values, conditions, new=torch.tensor([2]))
    taken_off = (values - correction(values, conditions)).mean(0)
    full = (values - correction.centroids[correction.shares(values).argmax(1)]).mean(0)
    assert low < taken_off @ full / full.square().sum() < high


def test_columns_of_several_keys_stand_where_they_belong():
    reference = MixtureCorrection(2, [2, 3], 4)
    torch.manual_seed(0)
    for buffer in reference.buffers():
        buffer.normal_()
    correction = MixtureCorrection(2, [3, 5], 4)
    correction.take_over(reference)
    new = correction.columns([range(2, 3), range(3, 5)])
    assert new.tolist() == [2, 6, 7]
    assert torch.equal(correction.offsets[:, [0, 1, 3, 4, 5]], reference.offsets)
    assert not correction.offsets[:, new].any()
    values = torch.randn(5, 4)
    conditions = torch.tensor([[0, 0], [1, 2], [0, 1], [1, 0], [0, 2]])
    torch.testing.assert_close(correction(values, conditions), reference(values, conditions))


def test_new_categories_of_two_keys_are_told_apart():
    """Of each key one new category, in half of the cells: what they add is found for each."""
    generator = torch.Generator().manual_seed(0)
    correction = MixtureCorrection(2, [2, 2], 5)
    correction.centroids.copy_(4 * torch.eye(2, 5))
    state = torch.arange(400) % 2
    conditions = torch.randint(0, 2, (400, 2), generator=generator)
    a, b = 0.5 * torch.randn(2, 5, generator=generator)
    noise = 0.1 * torch.randn(400, 5, generator=generator)
    values = correction.centroids[state] + conditions[:, [0]] * a + conditions[:, [1]] * b + noise
    fit_query_offsets(correction, values, conditions, new=torch.tensor([1, 3]))
    for column, expected in ((1, a), (3, b)):
        torch.testing.assert_close(
            correction.offsets[:, column], expected.expand(2, -1), atol=0.08, rtol=0
        )
