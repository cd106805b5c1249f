from typing import TYPE_CHECKING

from scmetaq.data._modality import Modality
from scmetaq.module import MetaQModule
from scmetaq.nn import CodebookInit

from ._recipe import Recipe

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass as _Base
else:
    _Base = object


class ModelParts(_Base):
    """What the capabilities of a model, each a mixin, may count on."""

    module: MetaQModule
    n_metacells: int
    _modality: Modality
    _recipe: Recipe
    _codebook_init: CodebookInit
