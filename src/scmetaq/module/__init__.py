from ._coem_module import CoemModule
from ._metaq_module import MetaQModule
from ._modality_bridges import ModalityBridges
from ._reference_mapping import ReferenceMappingModule

__all__ = ["CoemModule", "MetaQModule", "ModalityBridges", "ReferenceMappingModule"]
