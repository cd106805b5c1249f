from ._base import Block
from ._parts import ModelParts
from ._training import few_cells_allowed


class ReadingMixin(ModelParts):
    """Reading cells, which every model can."""


__all__ = ["Block", "ReadingMixin", "few_cells_allowed"]
