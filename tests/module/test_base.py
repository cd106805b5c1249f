"""What modules of all models share."""

import pytest
import torch
from torch import nn

from scmetaq.module import ModalityModule
from scmetaq.nn._inputs import PRESENT


class Total(nn.Module):
    """A part that reads how many counts a cell has."""

    def read(self, counts, sizes=None):
        return {"total": counts.sum(1)}


@pytest.fixture
def module():
    module = ModalityModule()
    module.parts = nn.ModuleDict({"rna": Total(), "adt": Total()})
    return module


def test_each_part_reads_its_counts(module):
    counts = {"rna": torch.tensor([[1.0, 2.0], [0.0, 0.0]]), "adt": torch.tensor([[5.0], [7.0]])}
    present = {"rna": torch.tensor([[1.0], [0.0]]), "adt": torch.ones(2, 1)}
    found = module.read_parts(counts, present)
    assert found["rna"]["total"].tolist() == [3, 0]
    assert found["adt"]["total"].tolist() == [5, 7]
    assert found["rna"][PRESENT].tolist() == [[1], [0]]


def test_a_share_is_decoded_in_training_only(module):
    module.decoded_share = 0.25
    assert module.train().n_decoded(10) == 3
    assert module.eval().n_decoded(10) == 10
