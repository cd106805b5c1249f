"""How numbers get in: modalities, checks of user input, statistics of a reference sample."""

from ._demo import demo
from ._modality import find_modalities

__all__ = ["demo", "find_modalities"]
