import numpy as np
import pytest
import torch

from scmetaq.nn import MixtureCorrection, fit_mixture, one_hot


def simulate(n=600, seed=0):
    """Three states under three conditions; what conditions add differs between states."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.arange(n) % 3
    condition = torch.randint(0, 3, (n,), generator=generator)
    centres = 3 * torch.eye(3, 6)
    added = torch.randn(3, 3, 6, generator=generator)
    noise = 0.2 * torch.randn(n, 6, generator=generator)
    return state, condition[:, None], centres[state] + added[state, condition] + noise


def fitted(values, conditions, n_categories, n_clusters=3):
    generator = torch.Generator().manual_seed(0)
    start = values[:n_clusters]
    mixture = fit_mixture(values, conditions, n_categories, start=start, generator=generator)
    correction = MixtureCorrection(n_clusters, n_categories, values.shape[1])
    correction.set_mixture(mixture)
    return correction


def between_conditions(values, state, condition):
    """Share of the variance within states that is between conditions."""
    total = between = 0.0
    for s in range(3):
        of_state = values[state == s]
        centre = of_state.mean(0)
        total += (of_state - centre).square().sum()
        for c in range(3):
            part = values[(state == s) & (condition == c)]
            between += len(part) * (part.mean(0) - centre).square().sum()
    return float(between / total)


def test_what_conditions_add_is_gone_and_states_are_not():
    state, conditions, values = simulate()
    corrected = fitted(values, conditions, [3])(values, conditions)
    assert between_conditions(values, state, conditions[:, 0]) > 0.8
    assert between_conditions(corrected, state, conditions[:, 0]) < 0.05
    means = torch.stack([corrected[state == s].mean(0) for s in range(3)])
    within = (corrected - means[state]).square().sum(1).mean()
    assert torch.pdist(means).square().min() > 10 * within


def test_a_cell_is_corrected_by_itself():
    _, conditions, values = simulate()
    correction = fitted(values, conditions, [3])
    whole = correction(values, conditions)
    torch.testing.assert_close(correction(values[[7]], conditions[[7]]), whole[[7]])


def test_new_cells_come_to_those_of_their_state():
    state, conditions, values = simulate()
    train, new = slice(0, 500), slice(500, 600)
    correction = fitted(values[train], conditions[train], [3])
    known = correction(values[train], conditions[train])
    found = correction(values[new], conditions[new])
    nearest = torch.cdist(found, known).argmin(1)
    assert (state[train][nearest] == state[new]).float().mean() > 0.98


def test_a_state_of_one_condition_stays():
    """A condition that is nowhere else cannot be told from its state."""
    state, conditions, values = simulate()
    conditions = conditions.clone()
    conditions[state == 2] = 0
    corrected = fitted(values, conditions, [3])(values, conditions)
    means = torch.stack([corrected[state == s].mean(0) for s in range(3)])
    assert torch.pdist(means).min() > 1


def test_several_keys_add_up():
    torch.manual_seed(0)
    first, second = torch.randint(0, 2, (400,)), torch.randint(0, 3, (400,))
    conditions = torch.stack([first, second], 1)
    a, b = torch.randn(2, 5), torch.randn(3, 5)
    values = 4 * torch.ones(5) + a[first] + b[second] + 0.1 * torch.randn(400, 5)
    corrected = fitted(values, conditions, [2, 3], n_clusters=1)(values, conditions)
    for codes in (first, second):
        means = torch.stack([corrected[codes == c].mean(0) for c in codes.unique()])
        assert torch.pdist(means).max() < 0.1


def test_before_fitting_nothing_is_taken_off():
    _, conditions, values = simulate(30)
    assert torch.equal(MixtureCorrection(3, [3], 6)(values, conditions), values)


def test_everything_learnt_is_in_the_state():
    _, conditions, values = simulate()
    correction = fitted(values, conditions, [3])
    other = MixtureCorrection(3, [3], 6)
    other.load_state_dict(correction.state_dict())
    assert torch.equal(other(values, conditions), correction(values, conditions))


def test_the_same_seed_gives_the_same_mixture():
    _, conditions, values = simulate()
    first, second = (fitted(values, conditions, [3]) for _ in range(2))
    assert torch.equal(first.offsets, second.offsets)


@pytest.mark.parametrize("n_categories", [[2, 3]])
def test_indicators(n_categories):
    conditions = torch.tensor([[0, 2], [1, 0]])
    expected = np.array([[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]], dtype=np.float32)
    np.testing.assert_array_equal(one_hot(conditions, n_categories), expected)
