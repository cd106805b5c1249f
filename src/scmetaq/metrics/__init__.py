"""Metrics of metacells: arrays in, numbers out; ``evaluate`` is the one that reads AnnData."""

from ._compare import compare
from ._correlation import compactness, separation
from ._counts import SizeSummary, inv, modality_correlation, rna_atac_correlation, size_summary
from ._diffusion import DiffusionMap, diffusion_compactness, diffusion_map, diffusion_separation
from ._dubious import dubious
from ._embedding import density, euclidean_compactness, euclidean_separation, silhouette
from ._evaluate import evaluate
from ._inner import inner_fold, inner_stdev
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
from ._scib import integration_score, lisi
from ._transfer import ClassifierTest, classifier_test, module_preservation

__all__ = [
    "Agreement", "ClassifierTest", "DiffusionMap", "Mixing", "SizeSummary", "accuracy", "agreement",
    "balanced_accuracy", "classifier_test", "compactness", "compare", "density",
    "diffusion_compactness", "diffusion_map", "diffusion_separation", "dubious", "entropy",
    "euclidean_compactness", "euclidean_separation", "evaluate", "inner_fold", "inner_stdev",
    "integration_score", "inv", "lisi", "mixing", "modality_correlation", "module_preservation",
    "purity", "rna_atac_correlation", "separation", "silhouette", "size_summary",
]  # fmt: skip
