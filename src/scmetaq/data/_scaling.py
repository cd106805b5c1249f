from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from ._reference import _mean_and_std, _transformed, size_factor

_MIN_SCALE = 1e-6


class Scaling(NamedTuple):
    """Statistics of features."""

    mean: np.ndarray
    """Mean log1p counts per 10k of the selected features, ``(n_selected,)``."""
    scale: np.ndarray
    """Their standard deviation, ``(n_selected,)``."""
    rate: np.ndarray
    """Mean count per unit of size factor of all features, ``(n_features,)``."""


def fit_scaling(counts: sp.csr_matrix, features: np.ndarray) -> Scaling:
    """Statistics of chosen features of the reference sample.

    Parameters
    ----------
    counts
        Raw counts over all features, ``(n_cells, n_features)``.
    features
        Indices of the features that are read, ``(n_selected,)``.
    """
    mean, scale = _mean_and_std(_transformed(counts, features, np.log1p))
    rate = np.asarray(counts.sum(0)).ravel() / size_factor(counts).sum()
    return Scaling(mean, np.maximum(scale, _MIN_SCALE), rate)
