import torch

from scmetaq.nn import GatedLayer


def test_the_gate_is_a_sigmoid_of_the_layer_itself():
    layer, x = GatedLayer(7, 5), torch.randn(4, 7)
    h = layer.dense(x)
    expected = h * torch.sigmoid(h @ layer.gate.weight.T + layer.gate.bias)
    torch.testing.assert_close(layer(x), expected)


def test_a_shut_gate_lets_nothing_through():
    layer = GatedLayer(7, 5)
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.bias.fill_(-50)
    assert layer(torch.randn(4, 7)).abs().max() < 1e-6
