import numpy as np
import pytest
import scanpy as sc
import torch
from anndata import AnnData
from torch import nn

from scmetaq.nn._layers import (
    AttentionLayer,
    FeatureScaling,
    GatedLayer,
    Scaling,
    hidden_layers,
)

SELECTED = np.array([1, 4, 5, 19])


@pytest.fixture
def x():
    return torch.randn(16, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_widths_and_sign(x, norm):
    out = hidden_layers([6, 9, 4], norm)(x)
    assert out.shape == (16, 4)
    assert (out >= 0).all()


def test_layer_norm_sees_each_cell_by_itself_and_batch_norm_the_batch_in_training_only(x):
    layers = hidden_layers([6, 9, 4], "layer")
    torch.testing.assert_close(layers.train()(x)[:1], layers.train()(x[:1]))
    assert torch.equal(layers.train()(x), layers.eval()(x))
    layers = hidden_layers([6, 9, 4], "batch")
    layers.train()(x)
    assert not torch.allclose(layers.train()(x)[:8], layers.train()(x[:8]))
    torch.testing.assert_close(layers.eval()(x)[:8], layers.eval()(x[:8]))


def test_dropout_silences_units_in_training_only_and_no_layers_are_the_identity(x):
    layers = hidden_layers([6, 200], dropout=0.5)
    kept = (layers(x) > 0).float().mean()
    in_evaluation = layers.eval()(x)
    assert (in_evaluation > 0).float().mean() > 1.5 * kept
    torch.testing.assert_close(layers(x), in_evaluation, rtol=0, atol=0)
    assert not any(isinstance(m, torch.nn.Dropout) for m in hidden_layers([6, 9]))
    assert torch.equal(hidden_layers([6])(x), x)


def test_the_gate_is_a_sigmoid_of_the_layer_itself_and_shut_lets_nothing_through():
    layer, x = GatedLayer(7, 5), torch.randn(4, 7)
    h = layer.dense(x)
    expected = h * torch.sigmoid(h @ layer.gate.weight.T + layer.gate.bias)
    torch.testing.assert_close(layer(x), expected)
    layer = GatedLayer(7, 5)
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.bias.fill_(-50)
    assert layer(torch.randn(4, 7)).abs().max() < 1e-6


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return AttentionLayer(7, 32, n_tokens=4, n_heads=2)


def test_attention_agrees_with_torch(attention):
    """The same weights in torch's own layer, tokens being its sequence."""
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    weights = attention.query_key_value.state_dict()
    theirs.load_state_dict(
        {
            "in_proj_weight": weights["weight"],
            "in_proj_bias": weights["bias"],
            "out_proj.weight": attention.mix.weight,
            "out_proj.bias": attention.mix.bias,
        }
    )
    x = torch.randn(6, 7)
    h = attention.dense(x)
    tokens = h.view(6, 4, 8)
    attended = theirs(tokens, tokens, tokens, need_weights=False)[0].reshape(6, 32)
    torch.testing.assert_close(attention(x), attention.norm(h + attended), rtol=1e-5, atol=1e-5)


def test_hidden_units_see_each_other_and_cells_do_not(attention):
    x = torch.randn(6, 7)
    changed = x.clone()
    changed[0] = 100
    torch.testing.assert_close(attention(changed)[1:], attention(x)[1:])
    x = torch.randn(1, 7, requires_grad=True)
    h = attention.dense(x).detach().requires_grad_()
    seen = torch.autograd.grad(attention._attended(h)[0, 0], h)[0]
    assert (seen[0, 8:] != 0).any()


@pytest.fixture
def counts(rng):
    counts = rng.poisson(rng.gamma(0.3, 4, size=20), size=(300, 20)).astype(np.float32)
    counts[:, 4] = 0
    counts[7, 4] = 40  # one cell alone: beyond the clip
    counts[:, 0] += 1
    return counts


def size_factor(counts):
    return torch.from_numpy(counts.sum(1, keepdims=True) / 1e4)


def scaled_by_scanpy(counts):
    """Scaled log counts, and the means and standard deviations that scanpy used."""
    adata = AnnData(counts.copy())
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata = adata[:, SELECTED].copy()
    sc.pp.scale(adata, max_value=10)
    return adata.X, adata.var["mean"].to_numpy(copy=True), adata.var["std"].to_numpy(copy=True)


def test_scaling_agrees_with_scanpy_and_clips_on_both_sides(counts):
    expected, mean, std = scaled_by_scanpy(counts)
    scaling = FeatureScaling(4)
    scaling.set_state(Scaling(SELECTED, mean, std))
    found = scaling(torch.from_numpy(counts[:, SELECTED]), size_factor(counts))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.max() == 10
    scaling = FeatureScaling(2)
    scaling.set_state(Scaling([0, 1], [9.0, 0.0], [0.1, 0.1]))
    scaled = scaling(torch.tensor([[0.0, 100.0]]), torch.tensor([[0.01]]))
    assert scaled.tolist() == [[-10, 10]]
