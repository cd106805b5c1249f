import pytest
import torch

from scmetaq.nn import N_FOLDS, PrototypeFit


def cells(sizes, n_latent=4, seed=0):
    label = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    z = torch.randn(len(label), n_latent, generator=torch.Generator().manual_seed(seed))
    rank = torch.cat([torch.arange(n) for n in sizes])
    return z + 5 * label[:, None], label, rank % N_FOLDS


def fit(sizes, **kwargs):
    z, label, fold = cells(sizes, **kwargs)
    made = PrototypeFit(torch.tensor(sizes), z.shape[1])
    made.add(z, label, fold)
    return made, made.finish(z, label, fold)


def test_frequent_labels_do_not_decide_alone():
    """A label of nine times the cells counts three times as much, not nine."""
    made, _ = fit([901, 101])
    z, label, _ = cells([901, 101])
    expected, total = torch.zeros(4, 4, dtype=torch.float64), 0.0
    for k, n in enumerate((901, 101)):
        of_label = torch.cov(z[label == k].double().T)
        expected += (n - 1) ** 0.5 * of_label
        total += (n - 1) ** 0.5
    found = made._covariance(torch.arange(N_FOLDS) >= 0)
    torch.testing.assert_close(found, expected / total)


def test_shrinkage_is_that_of_ledoit_and_wolf():
    sklearn = pytest.importorskip("sklearn.covariance")
    z, label, _ = cells([200], n_latent=30)
    made, _ = fit([200], n_latent=30)
    expected = sklearn.ledoit_wolf_shrinkage((z - z.mean(0)).double().numpy(), assume_centered=True)
    assert float(made._shrinkage(z.double(), label, torch.arange(30))) == pytest.approx(
        expected, rel=0.03
    )


@pytest.mark.parametrize("sizes", [[2, 1], [3, 1, 1], [2], [40, 1]])
def test_very_few_cells(sizes):
    _, state = fit(sizes)
    assert state.n_cells.tolist() == sizes
    assert all(values.isfinite().all() for values in state)
    assert (state.quantiles.diff() >= 0).all()


def test_what_is_typical_is_told_by_label():
    z, label, fold = cells([500, 500])
    wide = torch.where(label[:, None] == 1, 2.0, 1.0)
    z = 5 * label[:, None] + (z - 5 * label[:, None]) * wide
    made = PrototypeFit(torch.tensor([500, 500]), 4)
    made.add(z, label, fold)
    typical = made.finish(z, label, fold).typical
    assert 1.5 < typical[1] / typical[0] < 4


def near_and_far(n_new, n=1000):
    """Cells of one label, of which the first are half as far from its mean."""
    z, label, fold = cells([n], n_latent=20)
    is_new = torch.arange(n) < n_new
    made = PrototypeFit(torch.tensor([n]), 20)
    z = torch.where(is_new[:, None], z / 2, z)
    made.add(z, label, fold)
    return made, (z, label, fold), is_new


def test_how_much_nearer_new_cells_are_is_told_from_them():
    made, sample, is_new = near_and_far(500)
    state = made.finish(*sample, is_new=is_new, new_cells=0.9)
    assert float(state.new_cells) == pytest.approx(0.25, rel=0.1)
    plain = made.finish(*sample)
    assert plain.new_cells == 1
    assert state.quantiles[800] < plain.quantiles[800]  # all cells are alike on this scale


def test_of_few_new_cells_it_is_what_is_given():
    made, sample, is_new = near_and_far(99)
    assert float(made.finish(*sample, is_new=is_new, new_cells=0.9).new_cells) == pytest.approx(0.9)
