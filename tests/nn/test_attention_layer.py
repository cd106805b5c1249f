import pytest
import torch
from torch import nn

from scmetaq.nn import AttentionLayer


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return AttentionLayer(7, 32, n_tokens=4, n_heads=2)


def test_attention_agrees_with_torch(layer):
    """The same weights in torch's own layer, tokens being its sequence."""
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    weights = layer.query_key_value.state_dict()
    theirs.load_state_dict(
        {
            "in_proj_weight": weights["weight"],
            "in_proj_bias": weights["bias"],
            "out_proj.weight": layer.mix.weight,
            "out_proj.bias": layer.mix.bias,
        }
    )
    x = torch.randn(6, 7)
    h = layer.dense(x)
    tokens = h.view(6, 4, 8)
    attended = theirs(tokens, tokens, tokens, need_weights=False)[0].reshape(6, 32)
    torch.testing.assert_close(layer(x), layer.norm(h + attended), rtol=1e-5, atol=1e-5)


def test_cells_do_not_see_each_other(layer):
    x = torch.randn(6, 7)
    changed = x.clone()
    changed[0] = 100
    torch.testing.assert_close(layer(changed)[1:], layer(x)[1:])


def test_hidden_units_see_each_other(layer):
    x = torch.randn(1, 7, requires_grad=True)
    h = layer.dense(x).detach().requires_grad_()
    seen = torch.autograd.grad(layer._attended(h)[0, 0], h)[0]
    assert (seen[0, 8:] != 0).any()
