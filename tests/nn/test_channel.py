import math

import pytest
import torch

from scmetaq.nn import AttentionLayer, Channel, CountBatch, GatedLayer, ModalityShape


def make(layer="gated", **shape):
    torch.manual_seed(0)
    channel = Channel(
        ModalityShape(20, **{"n_components": 3, "n_scores": 5, **shape}),
        layer,
        n_hidden=32,
        n_latent=4,
    )
    for name, buffer in channel.named_buffers():
        if name.endswith("axes"):
            buffer.normal_(std=0.05)
    return channel


@pytest.fixture
def counts():
    generator = torch.Generator().manual_seed(0)
    return torch.poisson(torch.full((6, 30), 2.0), generator=generator)


@pytest.mark.parametrize(("layer", "kind"), [("gated", GatedLayer), ("attention", AttentionLayer)])
def test_both_channels_are_made_of_the_layer(layer, kind):
    channel = make(layer)
    assert isinstance(channel.encoder, kind)
    assert isinstance(channel.decoder_channel, kind)


def test_the_encoder_reads_principal_components_of_like_size(counts):
    channel = make()
    scores, profile = channel.linear_path(CountBatch(counts))
    expected = torch.cat([scores * math.sqrt(10), profile * math.sqrt(3)], 1)
    found = channel.components(channel.read(counts))
    torch.testing.assert_close(found, expected)
    assert channel.encoder(found).shape == (6, 32)


def test_the_posterior_reads_components_beside_hidden_units(counts):
    channel = make()
    read = channel.components(channel.read(counts))
    hidden = channel.encoder(read)
    expected = channel.posterior.mean(torch.cat([hidden, read], 1))
    torch.testing.assert_close(channel.alone(hidden, read).mean, expected)


def test_sparse_and_dense_counts_are_read_alike(counts):
    channel = make()
    dense, sparse = channel.read(counts), channel.read(counts.to_sparse_csr())
    for name, values in dense.items():
        torch.testing.assert_close(values, sparse[name])


def test_it_decodes_the_selected_features():
    decoded = make(likelihood="zip").decode(torch.randn(6, 4))
    assert decoded.log_rate.shape == decoded.zero_logit.shape == (6, 20)
