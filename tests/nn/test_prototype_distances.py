import torch

from scmetaq.nn._prototype_distances import prototype_distances


def test_by_hand():
    generator = torch.Generator().manual_seed(0)
    values, means = (torch.randn(n, 4, generator=generator) for n in (5, 3))
    whitening = torch.randn(4, 4, generator=generator)
    n_cells = torch.tensor([2, 0, 8])
    metric = {"whitening": whitening, "spread": torch.tensor(6.0)}
    found = prototype_distances(values, means, n_cells, **metric)
    for i, value in enumerate(values.double()):
        for k in (0, 2):
            away = (value - means[k].double()) @ whitening.double()
            expected = away.square().sum() - 6.0 / n_cells[k]
            torch.testing.assert_close(found[i, k], expected)
    assert torch.isinf(found[:, 1]).all()
