"""Metrics of metacells: arrays in, numbers out; ``evaluate`` is the one that reads AnnData."""

from scmetaq.metrics._agreement import Agreement, agreement
from scmetaq.metrics._balanced_accuracy import balanced_accuracy
from scmetaq.metrics._compactness import compactness
from scmetaq.metrics._evaluate import evaluate
from scmetaq.metrics._purity import purity
from scmetaq.metrics._separation import separation
from scmetaq.metrics._size_summary import SizeSummary, size_summary

__all__ = [
    "Agreement",
    "SizeSummary",
    "agreement",
    "balanced_accuracy",
    "compactness",
    "evaluate",
    "purity",
    "separation",
    "size_summary",
]
