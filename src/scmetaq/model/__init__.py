from ._coem import COEM
from ._metaq import MetaQModel

__all__ = ["COEM", "MetaQModel"]
