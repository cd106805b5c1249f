import torch

from scmetaq.nn import ConditionEmbedding


def learnt(n_categories):
    """An embedding as after training: before it, all vectors are zero."""
    torch.manual_seed(0)
    embedding = ConditionEmbedding(n_categories)
    with torch.no_grad():
        for table in embedding.tables:
            table.normal_(std=0.1)
    return embedding


def test_vectors_of_all_keys_are_concatenated_and_none_is_longer_than_one():
    embedding = learnt({"donor": 4, "lane": 2})
    conditions = torch.tensor([[3, 0], [0, 1], [3, 1]])
    found = embedding(conditions)
    assert found.shape == (3, embedding.n_dims) == (3, 20)
    assert torch.equal(found[0, :10], embedding.table("donor")[3])
    assert torch.equal(found[1, 10:], embedding.table("lane")[1])
    assert torch.equal(found[0, :10], found[2, :10])
    embedding = ConditionEmbedding({"donor": 3})
    with torch.no_grad():
        embedding.tables[0].copy_(torch.tensor([[3.0], [0.1], [0.0]]).expand(3, 10))
    table = embedding.table("donor")
    norms = table.norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1.0, 0.1 * 10**0.5, 0.0]))
    embedding = ConditionEmbedding({})
    assert embedding(torch.zeros(5, 0, dtype=torch.long)).shape == (5, 0)
    assert not list(embedding.parameters())


def test_categories_with_different_gradients_move_apart_from_zero():
    embedding = ConditionEmbedding({"donor": 3})
    assert not embedding.table("donor").any()
    weight = torch.randn(10, generator=torch.Generator().manual_seed(0))
    predicted = embedding(torch.tensor([[0], [1], [2], [2]])) @ weight
    ((predicted - torch.tensor([1.0, 1.0, -1.0, -1.0])) ** 2).sum().backward()
    gradient = embedding.tables[0].grad
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(gradient[0], gradient[1])
    torch.testing.assert_close(gradient[2], -2 * gradient[0])


def taken_over():
    reference = learnt({"donor": 3, "lane": 2})
    embedding = ConditionEmbedding({"donor": 5, "lane": 2})
    embedding.take_over(reference)
    return reference, embedding


def test_known_categories_are_frozen_and_new_ones_start_at_their_mean():
    reference, embedding = taken_over()
    assert [tuple(p.shape) for p in embedding.parameters()] == [(2, 10), (0, 10)]
    assert torch.equal(embedding.table("donor")[:3], reference.table("donor"))
    assert torch.equal(embedding.table("lane"), reference.table("lane"))
    mean = reference.tables[0].mean(0)
    torch.testing.assert_close(embedding.table("donor")[3:], mean.expand(2, -1))


def test_weight_decay_does_not_reach_what_is_frozen():
    _, embedding = taken_over()
    before = {name: values.clone() for name, values in embedding.state_dict().items()}
    optimizer = torch.optim.AdamW(embedding.parameters(), lr=0.1, weight_decay=0.5)
    embedding(torch.tensor([[0, 0], [3, 1], [4, 0]])).square().sum().backward()
    optimizer.step()
    after = embedding.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"tables.0"}


def test_a_frozen_embedding_can_be_taken_over_again_and_loaded():
    _, embedding = taken_over()
    third = ConditionEmbedding({"donor": 6, "lane": 3})
    third.take_over(embedding)
    assert torch.equal(third.table("donor")[:5], embedding.table("donor"))
    assert [len(p) for p in third.parameters()] == [1, 1]
    other = ConditionEmbedding({"donor": 5, "lane": 2})
    other.freeze({"donor": 3, "lane": 2})
    other.load_state_dict(embedding.state_dict())
    assert torch.equal(other.table("donor"), embedding.table("donor"))
