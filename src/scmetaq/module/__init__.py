from ._metaq_module import MetaQModule
from ._modality_bridges import ModalityBridges

__all__ = ["MetaQModule", "ModalityBridges"]
