import torch

from scmetaq.nn import SeenCells


def test_cells_are_found_again_and_others_are_not():
    seen = SeenCells()
    assert not seen.contain(torch.tensor([0, 1])).any()
    seen.set_cells(torch.tensor([7, -(2**62), 3, 7]))
    assert len(seen) == 3
    assert seen.contain(torch.tensor([3, 4, -(2**62), 7])).tolist() == [True, False, True, True]


def test_they_are_part_of_the_state():
    seen, loaded = SeenCells(), SeenCells()
    seen.set_cells(torch.tensor([5, 2]))
    loaded.load_state_dict(seen.state_dict())
    assert loaded.contain(torch.tensor([2, 3])).tolist() == [True, False]
