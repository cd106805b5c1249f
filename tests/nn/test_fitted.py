from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scmetaq.nn._fitted import Fitted


class State(NamedTuple):
    means: Tensor
    n_cells: Tensor


def empty():
    return Fitted(State(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)))


def test_a_state_is_copied_with_its_size_and_the_type_of_the_old_one():
    module, means = empty(), np.ones((3, 2))
    assert not module.is_fitted
    module.set_state(State(means, torch.arange(3)))
    means[:] = 0
    assert module.is_fitted
    assert module.state.means.dtype == torch.float32
    torch.testing.assert_close(module.state.means, torch.ones(3, 2))


def test_a_saved_state_is_loaded_whatever_its_size():
    module, loaded = empty(), empty()
    module.set_state(State(torch.rand(4, 2), torch.arange(4)))
    loaded.load_state_dict(module.state_dict())
    assert loaded.is_fitted
    for a, b in zip(loaded.state, module.state, strict=True):
        assert torch.equal(a, b)
    loaded = empty()
    loaded.set_state(State(torch.rand(4, 2), torch.arange(4)))
    loaded.load_state_dict(empty().state_dict())
    assert not loaded.is_fitted
    assert len(loaded.state.means) == 0
