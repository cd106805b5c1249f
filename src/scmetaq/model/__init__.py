from ._coem import COEM
from ._metaq import MetaQModel
from ._scpoli import SCPoli

__all__ = ["COEM", "MetaQModel", "SCPoli"]
