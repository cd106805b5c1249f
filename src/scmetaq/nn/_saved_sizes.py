from typing import Any

from torch import nn


class SavedSizes(nn.Module):
    """A module whose buffers take the sizes that a saved state has."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, values in self._buffers.items():
            saved = state_dict.get(f"{prefix}{name}")
            if saved is not None and values is not None:
                self._buffers[name] = values.new_empty(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
