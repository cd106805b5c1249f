from ._coem_module import CoemModule
from ._metaq_module import MetaQModule
from ._modality_bridges import ModalityBridges
from ._modality_module import ModalityModule
from ._reference_mapping import ReferenceMappingModule
from ._scpoli_module import SCPoliModule

__all__ = [
    "CoemModule",
    "MetaQModule",
    "ModalityBridges",
    "ModalityModule",
    "ReferenceMappingModule",
    "SCPoliModule",
]
