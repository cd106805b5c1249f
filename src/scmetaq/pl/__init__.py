"""Plots of finished results; each draws on Axes and returns them."""

from ._embedding import conditions, embedding
from ._metacells import composition, confusion, purity, size
from ._metrics import granularity, metrics, training

__all__ = [
    "composition",
    "conditions",
    "confusion",
    "embedding",
    "granularity",
    "metrics",
    "purity",
    "size",
    "training",
]
