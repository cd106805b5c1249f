from ._base import ModalityModule, ReferenceMappingModule
from ._coem import CoemModule
from ._imputation import CrossModalImputation
from ._metaq import MetaQModule
from ._scpoli import SCPoliModule

__all__ = [
    "CoemModule",
    "CrossModalImputation",
    "MetaQModule",
    "ModalityModule",
    "ReferenceMappingModule",
    "SCPoliModule",
]
