import pytest
import torch

from scmetaq.nn import LabelScores, fit_label_scores

N_FEATURES = 300


def cells(n=240, seed=0):
    """Cells of three labels, the last two of which differ in one feature of many."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % 3
    values = torch.randn(n, N_FEATURES, generator=generator)
    values[label == 0, :50] += 1.0
    values[label == 2, 77] += 5.0
    return values, label, torch.arange(n) // 3 % 5


@pytest.fixture(scope="module")
def state():
    return fit_label_scores(*cells(), n_labels=3)


@pytest.fixture
def scores(state):
    made = LabelScores()
    made.set_state(state)
    return made


def test_new_cells_are_nearest_to_their_label(scores):
    values, label, _ = cells(seed=1)
    found = scores.distances(scores(values)).argmin(1)
    assert (found == label).double().mean() > 0.95


def test_prototypes_are_those_of_cells_left_out(scores):
    """New cells have the scores that the prototypes promise; the fitted ones have larger ones."""
    own, label, _ = cells()
    new, _, _ = cells(3000, seed=1)
    of_label = torch.arange(3000) % 3
    for k in range(3):
        promised = scores.means[k, k]
        assert scores(new)[of_label == k, k].mean() == pytest.approx(float(promised), abs=0.03)
        assert scores(own)[label == k, k].mean() > promised + 0.03


def test_labels_without_cells_are_never_nearest():
    values, label, fold = cells()
    made = LabelScores()
    made.set_state(fit_label_scores(values, label, fold, n_labels=4))
    distances = made.distances(made(values))
    assert torch.isinf(distances[:, 3]).all()
    assert torch.isfinite(distances[:, :3]).all()


def test_a_label_that_is_added_leaves_the_others_as_they_are(scores):
    values, _, _ = cells()
    before = scores.distances(scores(values))
    odd = values[:4] + 3
    scores.add(scores(odd).mean(0, keepdim=True), torch.tensor([4]))
    after = scores.distances(scores(values))
    assert torch.equal(after[:, :3], before)
    assert scores.distances(scores(odd)).argmin(1).tolist() == [3] * 4


def test_the_state_is_all_there_is(scores):
    values, _, _ = cells(seed=1)
    other = LabelScores()
    assert not other.is_fitted
    other.load_state_dict(scores.state_dict())
    assert other.is_fitted
    assert torch.equal(other.distances(other(values)), scores.distances(scores(values)))


def test_a_single_label(scores):
    values, _, fold = cells()
    made = LabelScores()
    made.set_state(fit_label_scores(values, torch.zeros(240, dtype=torch.int64), fold, n_labels=1))
    assert torch.isfinite(made.distances(made(values))).all()
