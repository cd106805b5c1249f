import torch

from scmetaq.nn import ConditionalPart, ModalityShape


def make():
    torch.manual_seed(0)
    part = ConditionalPart(ModalityShape(20), n_latent=4, n_conditions=3, dropout=0.5)
    part.feature_scaling.features.copy_(torch.arange(5, 25))
    return part


def test_one_hidden_layer_of_the_square_root_of_the_features():
    part = make()
    assert part.encoder[0].weight.shape == (5, 20 + 3)
    assert part.decoder.hidden[0].weight.shape == (5, 4 + 3)


def test_reads_the_selected_features_and_the_library_of_all():
    counts = torch.poisson(torch.full((6, 30), 2.0))
    found = make().read(counts.to_sparse_csr())
    torch.testing.assert_close(found["counts"], counts[:, 5:25])
    torch.testing.assert_close(found["size_factor"], counts.sum(1, keepdim=True) / 1e4)


def test_conditions_reach_the_posterior_and_dropout_is_for_training():
    part, counts = make().eval(), torch.poisson(torch.full((6, 30), 2.0))
    inputs = part.read(counts)
    condition = torch.zeros(6, 3)
    first, again = (part.encode(inputs, condition).mean for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(part.encode(inputs, condition + 1).mean, first)
    part.train()
    assert not torch.allclose(part.encode(inputs, condition).mean, first)
