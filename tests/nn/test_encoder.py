import numpy as np
import pytest
import scanpy as sc
import torch
from anndata import AnnData

from scmetaq.nn import Encoder, FeatureScaling

SELECTED = np.array([1, 4, 5, 19])


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


def test_scaling_agrees_with_scanpy(counts):
    expected, mean, std = scaled_by_scanpy(counts)
    scaling = FeatureScaling(4)
    scaling.set_scaling(*map(torch.as_tensor, (SELECTED, mean, std)))
    found = scaling(torch.from_numpy(counts[:, SELECTED]), size_factor(counts))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.max() == 10


def test_clips_on_both_sides():
    scaling = FeatureScaling(2)
    scaling.set_scaling(torch.tensor([0, 1]), torch.tensor([9.0, 0.0]), torch.tensor([0.1, 0.1]))
    scaled = scaling(torch.tensor([[0.0, 100.0]]), torch.tensor([[0.01]]))
    assert scaled.tolist() == [[-10, 10]]


def test_scaling_is_saved_with_the_weights(counts):
    scaling, other = FeatureScaling(4), FeatureScaling(4)
    scaling.set_scaling(torch.from_numpy(SELECTED), torch.rand(4), torch.rand(4) + 0.5)
    other.load_state_dict(scaling.state_dict())
    x, factor = torch.from_numpy(counts[:, SELECTED]), size_factor(counts)
    assert torch.equal(scaling(x, factor), other(x, factor))


def test_can_start_as_the_zero_function(counts):
    encoder = Encoder(20, 3)
    encoder.start_at_zero()
    latent = encoder(torch.from_numpy(counts))
    assert latent.shape == (300, 3)
    assert (latent == 0).all()
