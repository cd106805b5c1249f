"""Metrics of metacells: arrays in, numbers out; ``evaluate`` is the one that reads AnnData."""

from scmetaq.metrics._agreement import Agreement, agreement
from scmetaq.metrics._balanced_accuracy import balanced_accuracy
from scmetaq.metrics._compactness import compactness
from scmetaq.metrics._diffusion_compactness import diffusion_compactness
from scmetaq.metrics._diffusion_map import DiffusionMap, diffusion_map
from scmetaq.metrics._diffusion_separation import diffusion_separation
from scmetaq.metrics._dubious import dubious
from scmetaq.metrics._entropy import entropy
from scmetaq.metrics._evaluate import evaluate
from scmetaq.metrics._inv import inv
from scmetaq.metrics._mixing import Mixing, mixing
from scmetaq.metrics._purity import purity
from scmetaq.metrics._rna_atac_correlation import rna_atac_correlation
from scmetaq.metrics._separation import separation
from scmetaq.metrics._size_summary import SizeSummary, size_summary

__all__ = [
    "Agreement",
    "DiffusionMap",
    "Mixing",
    "SizeSummary",
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
