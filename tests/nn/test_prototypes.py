import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from scmetaq.nn import LabelPrototypes, PrototypeFit, class_means, prototype_loss
from scmetaq.nn._prototype_fit import N_FOLDS
from scmetaq.nn._prototypes import mean_errors, prototype_distances

N_LATENT, N_DIMS = 6, 200


def labelled(n=900, n_states=N_LATENT):
    """Cells of three labels with one covariance, and the fold of each."""
    rng = torch.Generator().manual_seed(0)
    label = torch.arange(n) % 3
    mixing, centres = (torch.randn(k, N_LATENT, generator=rng) for k in (N_LATENT, 3))
    z = 3 * centres[label] + torch.randn(n, N_LATENT, generator=rng) @ mixing
    return z, label, torch.arange(n) // 3 % N_FOLDS


def fitted(z, label, fold, n_blocks=1, states=None, **kwargs):
    fit = PrototypeFit(["a", "b", "c"], torch.bincount(label, minlength=3), z.shape[1], states)
    for rows in torch.arange(len(z)).chunk(n_blocks):
        fit.add(z[rows], label[rows], fold[rows])
    return fit.finish(z, label, fold, **kwargs)


def made(state):
    prototypes = LabelPrototypes(state.means.shape[1])
    prototypes.set_state(state)
    return prototypes


@pytest.fixture(scope="module")
def cells():
    return labelled()


@pytest.fixture(scope="module")
def prototypes(cells):
    return made(fitted(*cells))


def test_labels_are_those_of_linear_discriminant_analysis(prototypes, cells):
    """Of equal classes with one covariance, which hardly needs shrinkage."""
    z, label, _ = cells
    expected = LinearDiscriminantAnalysis(solver="lsqr").fit(z, label).predict(z + 0.5)
    found, *_ = prototypes.nearest(z + 0.5)
    assert (found.numpy() == expected).mean() > 0.99
    within = (z - prototypes.means[label]) @ prototypes.whitening
    torch.testing.assert_close(torch.cov(within.T), torch.eye(N_LATENT), rtol=0, atol=0.15)
    assert float(prototypes.spread) == pytest.approx(N_LATENT, rel=0.1)


def test_probabilities_of_the_first_labels_are_those_of_normal_distributions(prototypes, cells):
    z, label, _ = cells
    analysis = LinearDiscriminantAnalysis(solver="lsqr").fit(z, label)
    expected = torch.from_numpy(analysis.predict_proba(z + 0.5))
    found = prototypes.posterior(z + 0.5, 3)
    assert found.dtype == z.dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.15)
    assert float((found - expected).abs().mean()) < 0.01
    two = prototypes.posterior(z, 2)
    torch.testing.assert_close(two.sum(1), torch.ones(len(z)))
    assert two.shape == (len(z), 2)


def test_variation_within_labels_is_in_units_of_the_latent(prototypes, cells):
    z, label, _ = cells
    expected = (z - prototypes.means[label]).square().sum(1).mean()
    assert prototypes.within == pytest.approx(float(expected), rel=0.01)


def test_uncertainty_of_cells_like_the_reference_is_uniform_and_of_the_states_alone(cells):
    z, label, fold = cells
    half = torch.arange(len(z)) % 2 == 0
    uncertainty = made(fitted(z[half], label[half], fold[half])).nearest(z[~half])[1]
    for share in (0.1, 0.5, 0.9):
        assert (uncertainty <= share).double().mean() == pytest.approx(share, abs=0.05)
    prototypes = made(fitted(z, label, fold, states=torch.arange(2)))
    noise = torch.zeros(N_LATENT)
    noise[2:] = 0.1
    found, moved = prototypes.nearest(z), prototypes.nearest(z + noise)
    same = found[0] == moved[0]
    assert same.double().mean() > 0.9
    torch.testing.assert_close(found[1][same], moved[1][same])


def test_distances_of_cells_not_fitted_to_are_divided_by_their_ratio(cells):
    state = fitted(*cells)
    halved = made(state._replace(new_cells=torch.tensor(0.5)))
    other = made(state._replace(typical=state.typical / 2))
    is_new = torch.arange(len(cells[0])) % 2 == 0
    found, own, doubled = (
        halved.nearest(cells[0], is_new),
        halved.nearest(cells[0]),
        other.nearest(cells[0]),
    )
    assert torch.equal(found[0], own[0])
    assert torch.equal(found[1][~is_new], own[1][~is_new])
    torch.testing.assert_close(found[1][is_new], doubled[1][is_new])
    assert (found[1] > own[1])[is_new].all()
    assert LabelPrototypes(4).is_new(torch.tensor([7, -1])).all()
    state = fitted(*cells)._replace(fitted_to=torch.tensor([-1, 2**62]))
    assert made(state).is_new(torch.tensor([7, -1, 2**62])).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "away", [torch.tensor([0, 1, 3, 10, 100, 1000.0]), torch.linspace(0.1, 0.4, 20)]
)
def test_the_uncertainty_rises_within_and_beyond_the_reference(prototypes, away):
    """Strictly, and it never gets to one."""
    direction = torch.ones(N_LATENT)
    uncertainty = prototypes.nearest(prototypes.means[0] + away[:, None] * direction)[1]
    assert (uncertainty.diff() > 0).all()
    assert 0 <= uncertainty[0] < 0.02
    assert uncertainty[-1] < 1
    if away[-1] == 1000:
        assert uncertainty[-1] > 0.999


def test_cells_are_labelled_alone_and_in_any_number(prototypes, cells):
    z = cells[0]
    turned = [values.flip(0) for values in prototypes.nearest(z.flip(0))]
    alone = list(map(torch.cat, zip(*map(prototypes.nearest, z.split(1)), strict=True)))
    more_than_a_block = [values[len(z) :] for values in prototypes.nearest(torch.cat([z, z]))]
    for found in (turned, alone, more_than_a_block):
        assert all(map(torch.equal, found, prototypes.nearest(z)))


def test_added_labels_change_nothing_else(prototypes, cells):
    more = LabelPrototypes(N_LATENT)
    more.load_state_dict(prototypes.state_dict())
    away = prototypes.means.mean(0) + 50
    more.add(["d"], away[None], torch.tensor([10]))
    assert more.labels == ["a", "b", "c", "d"]
    assert torch.equal(more.means[:3], prototypes.means)
    for name in ("whitening", "spread", "quantiles", "new_cells", "fitted_to"):
        assert torch.equal(getattr(more, name), getattr(prototypes, name))
    for found, before in zip(more.nearest(cells[0]), prototypes.nearest(cells[0]), strict=True):
        assert torch.equal(found, before)
    assert more.nearest(away[None])[0].item() == 3


def test_a_state_of_other_sizes_is_loaded_and_names_may_be_any_text(prototypes, cells):
    empty = LabelPrototypes(N_LATENT)
    assert empty.labels == []
    assert not empty.is_fitted
    empty.load_state_dict(prototypes.state_dict())
    assert empty.labels == ["a", "b", "c"]
    for found, before in zip(empty.nearest(cells[0]), prototypes.nearest(cells[0]), strict=True):
        assert torch.equal(found, before)
    prototypes = LabelPrototypes(N_LATENT)
    names = ['Ä "quoted"', "T\u200b cell, naïve", ""]
    prototypes.add(names, torch.zeros(3, N_LATENT), torch.ones(3))
    assert prototypes.labels == names


def drawn(n, mean=0.0, seed=0):
    return mean + torch.randn(n, N_DIMS, generator=torch.Generator().manual_seed(seed))


def distances_to(cells, means, n_cells):
    """In a space whose dimensions have unit variance, and the errors of the means."""
    spread = torch.tensor(float(N_DIMS))
    errors = mean_errors(means.double(), n_cells, spread)
    return prototype_distances(cells, means, n_cells, torch.eye(N_DIMS), spread), errors


def test_distances_by_hand():
    generator = torch.Generator().manual_seed(0)
    values, means = (torch.randn(n, 4, generator=generator) for n in (5, 4))
    whitening = torch.randn(4, 4, generator=generator)
    n_cells, spread = torch.tensor([2, 0, 8, 3]), torch.tensor(6.0)
    found = prototype_distances(values, means, n_cells, whitening, spread)
    white = means.double() @ whitening.double()
    errors = mean_errors(white, n_cells, spread)
    for k in (0, 2, 3):
        apart = [
            (white[k] - white[j]).square().sum() - 6 / n_cells[k] - 6 / n_cells[j]
            for j in (0, 2, 3)
            if n_cells[j] > n_cells[k]
        ]
        expected = min([6 / float(n_cells[k]), *(max(0.0, float(value)) for value in apart)])
        assert float(errors[k]) == pytest.approx(expected)
        for i, value in enumerate(values.double()):
            away = (value - means[k].double()) @ whitening.double()
            torch.testing.assert_close(found[i, k], away.square().sum() - errors[k])
    assert torch.isinf(found[:, 1]).all()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_rare_labels_keep_their_cells_if_apart_and_draw_no_others(n):
    cells = drawn(500)
    n_cells = torch.tensor([500 - n, n])
    means = torch.stack([cells.mean(0), cells[:n].mean(0)])
    distances, errors = distances_to(drawn(1000, seed=1), means, n_cells)
    assert (distances.argmin(1) == 1).float().mean() < 0.02
    # with the error of a mean subtracted in any case, it draws about half of them
    in_full = distances + errors - N_DIMS / n_cells
    assert (in_full.argmin(1) == 1).float().mean() > 0.3
    # Twenty-three deviations apart; the mean of one cell has an error of fourteen
    means = torch.stack([drawn(500).mean(0), drawn(n, 1.6, seed=2).mean(0)])
    distances, errors = distances_to(drawn(1000, 1.6, seed=3), means, torch.tensor([500, n]))
    assert (distances.argmin(1) == 1).float().mean() > 0.98
    assert float(errors[1]) == pytest.approx(N_DIMS / n)


def test_a_rare_label_keeps_its_cells_only_because_the_error_of_its_mean_is_subtracted():
    """Thirteen deviations apart, less than the error of the mean of one cell."""
    means = torch.stack([drawn(500).mean(0), drawn(1, 0.9, seed=2).mean(0)])
    distances, errors = distances_to(drawn(1000, 0.9, seed=3), means, torch.tensor([500, 1]))
    kept = [(found.argmin(1) == 1).float().mean() for found in (distances, distances + errors)]
    assert kept[0] > 0.95
    assert kept[1] < 0.5
    _, errors = distances_to(drawn(1), torch.zeros(2, N_DIMS), torch.tensor([4, 4]))
    torch.testing.assert_close(errors, torch.full((2,), N_DIMS / 4, dtype=torch.float64))


def test_the_loss_counts_every_label_alike_and_ignores_cells_without_one():
    z = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    prototypes = torch.tensor([[0.0, 0.0], [1.0, 2.0], [9.0, 9.0]])
    labels = torch.tensor([0, 0, 0, 1])
    # label 0: mean of 5, 0, 0; label 1: 1; label 2 does not occur
    torch.testing.assert_close(prototype_loss(z, labels, prototypes), torch.tensor(5 / 3 + 1))
    z = torch.randn(5, 3, requires_grad=True)
    labels = torch.tensor([0, -1, 1, -1, 1])
    prototypes = torch.randn(2, 3)
    loss = prototype_loss(z, labels, prototypes)
    torch.testing.assert_close(loss, prototype_loss(z[[0, 2, 4]], labels[[0, 2, 4]], prototypes))
    loss.backward()
    assert (z.grad[[1, 3]] == 0).all()
    assert (z.grad[[0, 2, 4]] != 0).all()
    assert prototype_loss(z, torch.full((5,), -1), prototypes) == 0
    z = torch.zeros(1, 3, requires_grad=True)
    prototype_loss(z, torch.tensor([0]), torch.zeros(1, 3)).backward()
    assert torch.isfinite(z.grad).all()


def test_prototypes_are_class_means_and_blocks_do_not_matter(prototypes, cells):
    z, labels = torch.randn(30, 4), torch.arange(30) % 4 - 1
    found = class_means(z, labels)
    expected = torch.stack([z[labels == k].mean(0) for k in range(3)])
    torch.testing.assert_close(found, expected)
    with_gap = class_means(z, torch.where(labels == 1, -1, labels))
    assert (with_gap[1] == 0).all()
    z, label, _ = cells
    torch.testing.assert_close(prototypes.means, class_means(z, label))
    assert prototypes.n_cells.tolist() == [300, 300, 300]
    assert prototypes.labels == ["a", "b", "c"]
    for whole, parts in zip(fitted(*cells), fitted(*cells, n_blocks=7), strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-8, atol=1e-8)
