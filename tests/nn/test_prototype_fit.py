import pytest
import torch

from scmetaq.nn import LabelPrototypes, PrototypeFit
from scmetaq.nn._prototype_fit import N_FOLDS


def cells(sizes, n_latent=4, seed=0):
    label = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    z = torch.randn(len(label), n_latent, generator=torch.Generator().manual_seed(seed))
    rank = torch.cat([torch.arange(n) for n in sizes])
    return z + 5 * label[:, None], label, rank % N_FOLDS


def fitted(z, label, fold, **kwargs):
    n_cells = torch.bincount(label)
    made = PrototypeFit([str(k) for k in range(len(n_cells))], n_cells, z.shape[1])
    made.add(z, label, fold)
    return made, made.finish(z, label, fold, **kwargs)


def test_frequent_labels_do_not_decide_alone():
    """A label of nine times the cells counts three times as much, not nine."""
    z, label, fold = cells([901, 101])
    expected, total = torch.zeros(4, 4, dtype=torch.float64), 0.0
    for k, n in enumerate((901, 101)):
        expected += (n - 1) ** 0.5 * torch.cov(z[label == k].double().T)
        total += (n - 1) ** 0.5
    found = fitted(z, label, fold)[0]._covariance(torch.arange(N_FOLDS) >= 0)
    torch.testing.assert_close(found, expected / total)


def test_shrinkage_is_that_of_ledoit_and_wolf():
    sklearn = pytest.importorskip("sklearn.covariance")
    z, label, fold = cells([200], n_latent=30)
    made, _ = fitted(z, label, fold)
    expected = sklearn.ledoit_wolf_shrinkage((z - z.mean(0)).double().numpy(), assume_centered=True)
    found = made._shrinkage(z.double(), label, torch.arange(30))
    assert float(found) == pytest.approx(expected, rel=0.03)


def test_shrinkage_labels_cells_better_where_dimensions_are_many():
    """Of sixty dimensions and a hundred cells, an inverse without it is mostly noise."""
    n_latent = 60
    z, label, fold = cells([50, 50], n_latent)
    z = z - 5 * label[:, None] + 0.5 * label[:, None]
    made, state = fitted(z, label, fold)
    plain = made._state(torch.ones(N_FOLDS, dtype=torch.bool), [torch.tensor(0.0)] * 2)
    new, truth, _ = cells([2000, 2000], n_latent, seed=1)
    new = new - 4.5 * truth[:, None]
    right = []
    for of_state in (state, plain):
        prototypes = LabelPrototypes(n_latent)
        prototypes.set_state(of_state)
        right.append(float((prototypes.nearest(new)[0] == truth).double().mean()))
    assert right[0] > 0.92
    assert right[0] > right[1] + 0.03


@pytest.mark.parametrize("sizes", [[2, 1], [3, 1, 1], [2], [40, 1]])
def test_very_few_cells(sizes):
    _, state = fitted(*cells(sizes))
    assert state.n_cells.tolist() == sizes
    assert all(values.isfinite().all() for values in state)
    assert (state.quantiles.diff() >= 0).all()


def test_the_typical_distance_is_that_of_each_label_and_of_few_cells_that_of_all():
    z, label, fold = cells([500, 500])
    wide = torch.where(label[:, None] == 1, 2.0, 1.0)
    z = 5 * label[:, None] + (z - 5 * label[:, None]) * wide
    typical = fitted(z, label, fold)[1].typical
    assert 1.5 < typical[1] / typical[0] < 4
    # A hundred cells count as much as the mean over all labels
    z, label, fold = cells([900, 10], n_latent=20)
    z = torch.where(label[:, None] == 1, 5 + 3 * (z - 5), z)
    typical = fitted(z, label, fold)[1].typical
    assert 1 < typical[1] / typical[0] < 2


def test_the_scale_is_that_of_cells_left_out_of_the_prototypes():
    """Of forty dimensions: own cells are much nearer to what was fitted to them."""
    z, label, fold = cells([30, 30], n_latent=40)
    prototypes = LabelPrototypes(40)
    prototypes.set_state(fitted(z, label, fold)[1])
    new, _, _ = cells([1000, 1000], n_latent=40, seed=1)
    own, others = (prototypes.nearest(of)[1] for of in (z, new))
    assert others.median() == pytest.approx(0.5, abs=0.1)
    assert own.median() < 0.4


def test_how_much_nearer_new_cells_are_is_estimated_from_latents_as_if_new():
    z, label, fold = cells([1000], n_latent=20)
    is_new = torch.arange(1000) % 2 == 0
    near = torch.where(is_new[:, None], z / 2, z)
    _, plain = fitted(near, label, fold)
    assert plain.new_cells == 1
    _, state = fitted(near, label, fold, as_new=z / 2, is_new=is_new)
    assert float(state.new_cells) == pytest.approx(0.25, rel=0.1)
    assert state.quantiles[800] < plain.quantiles[800]  # all cells are alike on this scale
    z, label, fold = cells([100])
    _, state = fitted(z, label, fold, as_new=z / 2, is_new=torch.ones(100, dtype=torch.bool))
    assert state.new_cells == 1
