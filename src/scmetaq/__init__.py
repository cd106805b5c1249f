"""Metacells by quantization, for scverse."""

from importlib.metadata import version

from . import data, metrics, pl, tl
from .model import MetaQModel

__all__ = ["MetaQModel", "data", "metrics", "pl", "tl"]
__version__ = version("scmetaq")
