import torch

from scmetaq.train._epoch_means import EpochMeans


def test_batches_count_by_their_cells():
    means = EpochMeans()
    means.add({"a": torch.tensor(1.0), "b": torch.tensor(5.0)}, 30)
    means.add({"a": torch.tensor(4.0)}, 10)
    found = means.pop()
    assert {name: value.item() for name, value in found.items()} == {"a": 1.75, "b": 5.0}


def test_the_next_epoch_begins_empty():
    means = EpochMeans()
    means.add({"a": torch.tensor(1.0)}, 3)
    means.pop()
    assert means.pop() == {}
    means.add({"a": torch.tensor(2.0)}, 3)
    assert means.pop()["a"] == 2


def test_no_graph_is_kept():
    means = EpochMeans()
    means.add({"a": torch.tensor(1.0, requires_grad=True) * 2}, 1)
    assert not means.pop()["a"].requires_grad
