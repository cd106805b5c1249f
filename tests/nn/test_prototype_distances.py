import pytest
import torch

from scmetaq.nn._prototype_distances import mean_errors, prototype_distances

N_DIMS = 200


def drawn(n, mean=0.0, seed=0):
    return mean + torch.randn(n, N_DIMS, generator=torch.Generator().manual_seed(seed))


def metric(spread=N_DIMS):
    return {"whitening": torch.eye(N_DIMS), "spread": torch.tensor(float(spread))}


def test_by_hand():
    generator = torch.Generator().manual_seed(0)
    values, means = (torch.randn(n, 4, generator=generator) for n in (5, 4))
    whitening = torch.randn(4, 4, generator=generator)
    n_cells = torch.tensor([2, 0, 8, 3])
    options = {"whitening": whitening, "spread": torch.tensor(6.0)}
    found = prototype_distances(values, means, n_cells, **options)
    errors = mean_errors(means, n_cells, **options)
    white = means.double() @ whitening.double()
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
def test_a_few_cells_with_a_wrong_label_do_not_draw_their_type_to_it(n):
    cells = drawn(500)
    means = torch.stack([cells.mean(0), cells[:n].mean(0)])
    n_cells = torch.tensor([500 - n, n])
    distances = prototype_distances(drawn(1000, seed=1), means, n_cells, **metric())
    assert (distances.argmin(1) == 1).float().mean() < 0.02
    # where the error of a mean is taken off in any case, it draws about half of them
    in_full = distances + mean_errors(means, n_cells, **metric()) - N_DIMS / n_cells
    assert (in_full.argmin(1) == 1).float().mean() > 0.3


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_rare_label_that_lies_apart_keeps_its_cells(n):
    """Twenty-three deviations apart; the mean of one cell errs by fourteen."""
    common, rare = drawn(500), drawn(n, 1.6, seed=2)
    means, n_cells = torch.stack([common.mean(0), rare.mean(0)]), torch.tensor([500, n])
    distances = prototype_distances(drawn(1000, 1.6, seed=3), means, n_cells, **metric())
    assert (distances.argmin(1) == 1).float().mean() > 0.98
    assert float(mean_errors(means, n_cells, **metric())[1]) == pytest.approx(N_DIMS / n)


def test_of_labels_with_as_many_cells_none_counts_against_another():
    means = torch.zeros(2, N_DIMS)
    errors = mean_errors(means, torch.tensor([4, 4]), **metric())
    torch.testing.assert_close(errors, torch.full((2,), N_DIMS / 4, dtype=torch.float64))
