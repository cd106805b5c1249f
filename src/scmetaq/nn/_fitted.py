from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn


class Fitted[State: NamedTuple](nn.Module):
    """A module whose state is fitted, not learnt: its buffers are the fields of a NamedTuple.

    Buffers take the sizes of the state that is set or loaded. Whether there is one is known to the
    host, which need not wait for a device to ask. ``state`` is that before the fit.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, state: State):
        super().__init__()
        self._state_cls = type(state)
        for name, values in state._asdict().items():
            self.register_buffer(name, values)
        self.register_buffer("fitted", torch.tensor(False))
        self.is_fitted = False

    @property
    def state(self) -> State:
        """The buffers as they are, not copied."""
        values = (getattr(self, name) for name in self._state_cls._fields)
        return self._state_cls(*values)

    @torch.no_grad()
    def set_state(self, state: NamedTuple) -> None:
        """Copy a fitted state of the same fields; arrays become tensors like the present ones."""
        for name, values in state._asdict().items():
            new = torch.as_tensor(values).to(getattr(self, name))
            setattr(self, name, new.clone(memory_format=torch.contiguous_format))
        self.fitted.fill_(True)
        self.is_fitted = True

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name in self._state_cls._fields:
            saved = state_dict.get(f"{prefix}{name}")
            if saved is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.is_fitted = bool(self.fitted)
