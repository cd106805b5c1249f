import torch

from scmetaq.nn import ConditionEmbedding


def test_vectors_of_all_keys_stand_side_by_side():
    torch.manual_seed(0)
    embedding = ConditionEmbedding({"donor": 4, "lane": 2})
    conditions = torch.tensor([[3, 0], [0, 1], [3, 1]])
    found = embedding(conditions)
    assert found.shape == (3, embedding.n_dims) == (3, 20)
    assert torch.equal(found[0, :10], embedding.table("donor")[3])
    assert torch.equal(found[1, 10:], embedding.table("lane")[1])
    assert torch.equal(found[0, :10], found[2, :10])


def test_no_vector_is_longer_than_one():
    embedding = ConditionEmbedding({"donor": 3})
    with torch.no_grad():
        embedding.tables[0].copy_(torch.tensor([[3.0], [0.1], [0.0]]).expand(3, 10))
    table = embedding.table("donor")
    norms = table.norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1.0, 0.1 * 10**0.5, 0.0]))


def test_without_conditions_there_is_nothing():
    embedding = ConditionEmbedding({})
    assert embedding(torch.zeros(5, 0, dtype=torch.long)).shape == (5, 0)
    assert not list(embedding.parameters())
