import pytest
import torch

from scmetaq.nn import hidden_layers


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


def test_dropout_silences_units_in_training_only(x):
    layers = hidden_layers([6, 200], dropout=0.5)
    kept = (layers(x) > 0).float().mean()
    in_evaluation = layers.eval()(x)
    assert (in_evaluation > 0).float().mean() > 1.5 * kept
    torch.testing.assert_close(layers(x), in_evaluation, rtol=0, atol=0)
    assert not any(isinstance(m, torch.nn.Dropout) for m in hidden_layers([6, 9]))
