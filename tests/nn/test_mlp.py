import copy

import pytest
import torch

from scmetaq.nn import hidden_layers
from scmetaq.nn._mlp import forward_weighted


@pytest.fixture
def x():
    return torch.randn(16, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_widths_and_sign(x, norm):
    out = hidden_layers([6, 9, 4], norm)(x)
    assert out.shape == (16, 4)
    assert (out >= 0).all()


def test_layer_norm_sees_each_cell_by_itself(x):
    layers = hidden_layers([6, 9, 4], "layer")
    torch.testing.assert_close(layers.train()(x)[:1], layers.train()(x[:1]))
    assert torch.equal(layers.train()(x), layers.eval()(x))


def test_batch_norm_depends_on_the_batch_in_training_only(x):
    layers = hidden_layers([6, 9, 4], "batch")
    layers.train()(x)
    assert not torch.allclose(layers.train()(x)[:8], layers.train()(x[:8]))
    torch.testing.assert_close(layers.eval()(x)[:8], layers.eval()(x[:8]))


def test_no_layers_are_the_identity(x):
    assert torch.equal(hidden_layers([6])(x), x)


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("training", [True, False])
def test_a_row_that_stands_for_cells_is_as_good_as_the_cells(x, norm, training):
    n_cells = torch.tensor([1, 3, 1, 2, 5] + [1] * 11)
    layers = hidden_layers([6, 9, 4], norm).train(training)
    other = copy.deepcopy(layers)
    out = forward_weighted(layers, x, n_cells)
    repeated = other(x.repeat_interleave(n_cells, 0))
    torch.testing.assert_close(out.repeat_interleave(n_cells, 0), repeated)
    (out.square().sum(1) * n_cells).sum().backward()
    repeated.square().sum().backward()
    for found, expected in zip(layers.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-4, rtol=1e-4)
    for name, expected in other.state_dict().items():
        torch.testing.assert_close(layers.state_dict()[name], expected)


def test_dropout_silences_units_in_training_only(x):
    layers = hidden_layers([6, 200], dropout=0.5)
    kept = (layers(x) > 0).float().mean()
    in_evaluation = layers.eval()(x)
    assert (in_evaluation > 0).float().mean() > 1.5 * kept
    torch.testing.assert_close(layers(x), in_evaluation, rtol=0, atol=0)
    assert not any(isinstance(m, torch.nn.Dropout) for m in hidden_layers([6, 9]))
