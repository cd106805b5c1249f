"""Metacells by quantization, for scverse.

Parts are loaded when they are first used: torch, JAX and scvi-tools take seconds.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import data, metrics, pl, tl
    from .model import COEM, MetaQModel, SCPoli

__all__ = ["COEM", "MetaQModel", "SCPoli", "data", "metrics", "pl", "tl"]
__version__ = version("scmetaq")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.islower():
        return import_module(f".{name}", __name__)
    return getattr(import_module(".model", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
