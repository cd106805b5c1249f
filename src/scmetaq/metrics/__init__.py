"""Metrics of metacells: arrays in, numbers out; ``evaluate`` is the one that reads AnnData."""

from scmetaq.metrics._correlation import compactness, separation
from scmetaq.metrics._counts import inv, rna_atac_correlation
from scmetaq.metrics._diffusion import (
    DiffusionMap,
    diffusion_compactness,
    diffusion_map,
    diffusion_separation,
)
from scmetaq.metrics._dubious import dubious
from scmetaq.metrics._evaluate import evaluate
from scmetaq.metrics._groups import SizeSummary, size_summary
from scmetaq.metrics._labels import (
    Agreement,
    Mixing,
    accuracy,
    agreement,
    balanced_accuracy,
    entropy,
    mixing,
    purity,
)

__all__ = [
    "Agreement",
    "DiffusionMap",
    "Mixing",
    "SizeSummary",
    "accuracy",
    "agreement",
    "balanced_accuracy",
    "compactness",
    "diffusion_compactness",
    "diffusion_map",
    "diffusion_separation",
    "dubious",
    "entropy",
    "evaluate",
    "inv",
    "mixing",
    "purity",
    "rna_atac_correlation",
    "separation",
    "size_summary",
]
