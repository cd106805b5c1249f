import torch

from scmetaq.nn import ConditionEmbedding


def test_vectors_of_all_keys_stand_side_by_side():
    torch.manual_seed(0)
    embedding = ConditionEmbedding({"donor": 4, "lane": 2})
    with torch.no_grad():
        for table in embedding.tables:
            table.normal_(std=0.1)
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


def test_categories_that_are_not_used_alike_move_apart_from_zero():
    embedding = ConditionEmbedding({"donor": 3})
    assert not embedding.table("donor").any()
    weight = torch.randn(10, generator=torch.Generator().manual_seed(0))
    told = embedding(torch.tensor([[0], [1], [2], [2]])) @ weight
    ((told - torch.tensor([1.0, 1.0, -1.0, -1.0])) ** 2).sum().backward()
    gradient = embedding.tables[0].grad
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(gradient[0], gradient[1])
    torch.testing.assert_close(gradient[2], -2 * gradient[0])


def test_without_conditions_there_is_nothing():
    embedding = ConditionEmbedding({})
    assert embedding(torch.zeros(5, 0, dtype=torch.long)).shape == (5, 0)
    assert not list(embedding.parameters())
