import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from scmetaq.nn import N_FOLDS, LabelPrototypes, PrototypeFit

N_LATENT = 6


def labelled(n=900, seed=0):
    """Cells of three labels with one covariance, and the fold of each."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    mixing = rng.normal(size=(N_LATENT, N_LATENT))
    z = 3 * rng.normal(size=(3, N_LATENT))[label] + rng.normal(size=(n, N_LATENT)) @ mixing
    return torch.tensor(z, dtype=torch.float32), torch.from_numpy(label), torch.arange(n) % N_FOLDS


def fitted(z, label, fold, n_blocks=1):
    fit = PrototypeFit(torch.bincount(label), z.shape[1])
    for rows in torch.arange(len(z)).chunk(n_blocks):
        fit.add(z[rows], label[rows], fold[rows])
    return fit.finish(z, label, fold)


@pytest.fixture(scope="module")
def cells():
    return labelled()


@pytest.fixture(scope="module")
def prototypes(cells):
    made = LabelPrototypes(N_LATENT)
    made.set_state(["a", "b", "c"], fitted(*cells))
    return made


def test_prototypes_are_class_means(prototypes, cells):
    z, label, _ = cells
    means = torch.stack([z[label == k].mean(0) for k in range(3)])
    torch.testing.assert_close(prototypes.means, means)
    assert prototypes.n_cells.tolist() == [300, 300, 300]


def test_blocks_do_not_matter(cells):
    one, many = fitted(*cells), fitted(*cells, n_blocks=7)
    for whole, parts in zip(one, many, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-8, atol=1e-8)


def test_labels_are_those_of_linear_discriminant_analysis(prototypes, cells):
    """Of equal classes with one covariance, which hardly needs shrinkage."""
    z, label, _ = cells
    new = labelled(600, seed=0)[0] + 0.5
    found, _ = prototypes.nearest(new)
    expected = LinearDiscriminantAnalysis(solver="lsqr").fit(z, label).predict(new)
    assert (found.numpy() == expected).mean() > 0.99


def test_whitening_makes_the_variance_within_labels_one(prototypes, cells):
    z, label, _ = cells
    within = (z - prototypes.means[label]) @ prototypes.whitening
    torch.testing.assert_close(torch.cov(within.T), torch.eye(N_LATENT), rtol=0, atol=0.15)
    assert prototypes.spread == pytest.approx(N_LATENT, rel=0.1)


def test_the_distance_to_a_mean_of_few_cells_is_unbiased():
    """Cells of one state, once by a thousand and once by three of them."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(1000, N_LATENT, generator=rng)
    label = torch.zeros(1000, dtype=torch.int64)
    state = fitted(z, label, torch.arange(1000) % N_FOLDS)
    few = [z[torch.randperm(1000, generator=rng)[:3]].mean(0) for _ in range(300)]
    white = state.whitening.float()
    raw = torch.stack([((z - mean) @ white).square().sum(1).mean() for mean in few]).mean()
    whole = ((z - z.mean(0)) @ white).square().sum(1).mean()
    assert float(raw - state.spread / 3) == pytest.approx(float(whole), rel=0.05)
    assert raw > 1.2 * whole


def test_uncertainty_of_cells_like_the_reference_is_uniform(cells):
    z, label, fold = cells
    half = torch.arange(len(z)) % 2 == 0
    made = LabelPrototypes(N_LATENT)
    made.set_state(["a", "b", "c"], fitted(z[half], label[half], fold[half]))
    uncertainty = made.nearest(z[~half])[1]
    for share in (0.1, 0.5, 0.9):
        assert (uncertainty <= share).double().mean() == pytest.approx(share, abs=0.05)


def test_distances_of_new_cells_are_divided_by_their_ratio(cells):
    z, label, fold = cells
    state = fitted(z, label, fold)
    made, other = LabelPrototypes(N_LATENT), LabelPrototypes(N_LATENT)
    made.set_state(["a", "b", "c"], state._replace(new_cells=torch.tensor(0.5)))
    other.set_state(["a", "b", "c"], state._replace(typical=state.typical / 2))
    is_new = torch.arange(len(z)) % 2 == 0
    found, as_own, doubled = made.nearest(z, is_new), made.nearest(z), other.nearest(z)
    assert torch.equal(found[0], as_own[0])
    assert torch.equal(found[1][~is_new], as_own[1][~is_new])
    torch.testing.assert_close(found[1][is_new], doubled[1][is_new])
    assert (found[1] > as_own[1])[is_new].all()


def test_uncertainty_grows_to_one_and_never_gets_there(prototypes):
    away = torch.tensor([0, 1, 3, 10, 100, 1000.0])[:, None] * torch.ones(N_LATENT)
    uncertainty = prototypes.nearest(prototypes.means[0] + away)[1]
    assert (uncertainty.diff() > 0).all()
    assert 0.999 < uncertainty[-1] < 1


def test_cells_nearer_than_all_of_the_reference_are_still_told_apart(prototypes):
    away = torch.linspace(0.1, 1.0, 20)[:, None] * torch.full((N_LATENT,), 0.3)
    uncertainty = prototypes.nearest(prototypes.means[0] + away)[1]
    assert (uncertainty.diff() > 0).all()
    assert 0 <= uncertainty[0] < 0.01


@pytest.mark.parametrize("order", ["reversed", "alone"])
def test_cells_are_labelled_alone(prototypes, cells, order):
    z = cells[0]
    label, uncertainty = prototypes.nearest(z)
    if order == "reversed":
        found = [values.flip(0) for values in prototypes.nearest(z.flip(0))]
    else:
        found = list(map(torch.cat, zip(*map(prototypes.nearest, z.split(1)), strict=True)))
    assert torch.equal(found[0], label)
    assert torch.equal(found[1], uncertainty)


def test_added_labels_change_nothing_else(prototypes, cells):
    more = LabelPrototypes(N_LATENT)
    more.load_state_dict(prototypes.state_dict())
    away = prototypes.means.mean(0) + 50
    more.add(["d"], away[None], torch.tensor([10]))
    assert more.labels == ["a", "b", "c", "d"]
    assert torch.equal(more.means[:3], prototypes.means)
    for name in ("whitening", "spread", "quantiles"):
        assert torch.equal(getattr(more, name), getattr(prototypes, name))
    for found, before in zip(more.nearest(cells[0]), prototypes.nearest(cells[0]), strict=True):
        assert torch.equal(found, before)
    assert more.nearest(away[None])[0].item() == 3


def test_a_state_of_other_sizes_is_loaded(prototypes, cells):
    empty = LabelPrototypes(N_LATENT)
    assert empty.labels == []
    empty.load_state_dict(prototypes.state_dict())
    assert empty.labels == ["a", "b", "c"]
    for found, before in zip(empty.nearest(cells[0]), prototypes.nearest(cells[0]), strict=True):
        assert torch.equal(found, before)


def test_names_may_be_any_text():
    made = LabelPrototypes(N_LATENT)
    names = ['Ä "quoted"', "T\u200b cell, naïve", ""]
    made.add(names, torch.zeros(3, N_LATENT), torch.ones(3))
    assert made.labels == names
