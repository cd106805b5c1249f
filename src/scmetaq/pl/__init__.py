"""Plots of finished results; each draws on Axes and returns them."""

from scmetaq.pl._composition import composition
from scmetaq.pl._conditions import conditions
from scmetaq.pl._confusion import confusion
from scmetaq.pl._embedding import embedding
from scmetaq.pl._granularity import granularity
from scmetaq.pl._metrics import metrics
from scmetaq.pl._purity import purity
from scmetaq.pl._size import size
from scmetaq.pl._training import training

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
