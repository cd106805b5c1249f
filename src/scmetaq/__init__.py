"""Metacells by quantization, for scverse."""

from importlib.metadata import version

from . import data, metrics, pl, tl
from .model import COEM, MetaQModel, SCPoli

__all__ = ["COEM", "MetaQModel", "SCPoli", "data", "metrics", "pl", "tl"]
__version__ = version("scmetaq")
