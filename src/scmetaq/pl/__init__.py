"""Plots of finished results; each draws on Axes and returns them."""

from ._composition import composition
from ._conditions import conditions
from ._confusion import confusion
from ._embedding import embedding
from ._granularity import granularity
from ._metrics import metrics
from ._purity import purity
from ._size import size
from ._training import training

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
