"""Cells and their counts: reading, checks of user input, statistics of a reference sample."""

from ._demo import demo, demo_batches, demo_citeseq, demo_multiome
from ._features import split_modalities
from ._files import read_files
from ._modality import find_modalities

__all__ = [
    "demo",
    "demo_batches",
    "demo_citeseq",
    "demo_multiome",
    "find_modalities",
    "read_files",
    "split_modalities",
]
