import math

import pytest
import torch

from scmetaq.nn import Channel, ConditionalPart, CountBatch, ModalityShape
from scmetaq.nn._layers import AttentionLayer, GatedLayer


def make_channel(layer="gated", **shape):
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
    channel = make_channel(layer)
    assert isinstance(channel.encoder, kind)
    assert isinstance(channel.decoder_channel, kind)


def test_the_encoder_reads_principal_components_of_like_size_and_the_posterior_both(counts):
    channel = make_channel()
    scores, profile = channel.linear_path(CountBatch(counts))
    expected = torch.cat([scores * math.sqrt(10), profile * math.sqrt(3)], 1)
    found = channel.components(channel.read(counts))
    torch.testing.assert_close(found, expected)
    assert channel.encoder(found).shape == (6, 32)
    read = channel.components(channel.read(counts))
    hidden = channel.encoder(read)
    expected = channel.posterior.mean(torch.cat([hidden, read], 1))
    torch.testing.assert_close(channel.alone(hidden, read).mean, expected)


def test_sparse_and_dense_counts_are_read_alike_and_selected_features_decoded(counts):
    channel = make_channel()
    dense, sparse = channel.read(counts), channel.read(counts.to_sparse_csr())
    for name, values in dense.items():
        torch.testing.assert_close(values, sparse[name])
    decoded = make_channel(likelihood="zip").decode(torch.randn(6, 4))
    assert decoded.log_rate.shape == decoded.zero_logit.shape == (6, 20)


def make_conditional():
    torch.manual_seed(0)
    part = ConditionalPart(ModalityShape(20), n_latent=4, n_conditions=3, dropout=0.5)
    part.feature_scaling.features.copy_(torch.arange(5, 25))
    return part


def test_a_conditional_part_reads_the_selected_features_and_has_one_hidden_layer():
    part = make_conditional()
    assert part.encoder[0].weight.shape == (5, 20 + 3)
    assert part.decoder.hidden[0].weight.shape == (5, 4 + 3)
    counts = torch.poisson(torch.full((6, 30), 2.0))
    found = make_conditional().read(counts.to_sparse_csr())
    torch.testing.assert_close(found["counts"], counts[:, 5:25])
    torch.testing.assert_close(found["size_factor"], counts.sum(1, keepdim=True) / 1e4)


def test_conditions_reach_the_posterior_and_dropout_is_for_training():
    part, counts = make_conditional().eval(), torch.poisson(torch.full((6, 30), 2.0))
    inputs = part.read(counts)
    condition = torch.zeros(6, 3)
    first, again = (part.encode(inputs, condition).mean for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(part.encode(inputs, condition + 1).mean, first)
    part.train()
    assert not torch.allclose(part.encode(inputs, condition).mean, first)
