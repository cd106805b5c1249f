"""Metrics of metacells: arrays in, numbers out; ``evaluate`` is the one that reads AnnData."""

from ._compare import compare
from ._correlation import compactness, separation
from ._counts import inv, rna_atac_correlation
from ._diffusion import DiffusionMap, diffusion_compactness, diffusion_map, diffusion_separation
from ._dubious import dubious
from ._evaluate import evaluate
from ._groups import SizeSummary, size_summary
from ._labels import (
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
    "compare",
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
