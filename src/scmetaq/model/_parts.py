from typing import TYPE_CHECKING

from scmetaq.module import MetaQModule
from scmetaq.nn import CodebookInit

from ._recipe import Recipe

if TYPE_CHECKING:
    from ._base import CountModel as _Base
else:
    _Base = object


class ModelParts(_Base):
    """What the capabilities of any model may count on."""


class MetaQParts(ModelParts):
    """What the capabilities of MetaQ may count on besides."""

    module: MetaQModule
    n_metacells: int
    _recipe: Recipe
    _codebook_init: CodebookInit
