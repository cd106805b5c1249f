"""How numbers get in: modalities, checks of user input, statistics of a reference sample."""

from ._demo import demo
from ._demo_batches import demo_batches
from ._demo_citeseq import demo_citeseq
from ._demo_multiome import demo_multiome
from ._modality import find_modalities

__all__ = ["demo", "demo_batches", "demo_citeseq", "demo_multiome", "find_modalities"]
