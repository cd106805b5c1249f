"""A linear factor model of transformed counts, fitted to a reference sample."""

from typing import Final, NamedTuple

import numpy as np
import scipy.sparse as sp

_MIN_NOISE: Final = 1e-4
_MIN_PRIOR: Final = 1e-10


class Factors(NamedTuple):
    """Values of features as linear functions of scores, with independent noise."""

    mean: np.ndarray
    """Of each feature, ``(n_features,)``."""
    loadings: np.ndarray
    """``(n_scores, n_features)``."""
    noise: np.ndarray
    """Variance of what scores do not explain, ``(n_features,)``."""
    prior: np.ndarray
    """Variance of each score, ``(n_scores,)``."""


def fit_factors(values: sp.csr_matrix, scores: np.ndarray) -> Factors:
    """Least-squares regression of features on scores.

    Parameters
    ----------
    values
        Transformed counts, ``(n_cells, n_features)``.
    scores
        Uncorrelated scores of the same cells, ``(n_cells, n_scores)``.
    """
    n_cells = values.shape[0]
    centred = (scores - scores.mean(0)).astype(np.float64)
    mean = np.asarray(values.mean(0, dtype=np.float64)).ravel()
    square = np.asarray(values.power(2).mean(0, dtype=np.float64)).ravel()
    prior = np.maximum((centred**2).mean(0), _MIN_PRIOR)  # S
    gram = centred.T @ centred / n_cells + np.diag(1e-6 * prior)  # S x S
    cross = np.asarray(values.T @ centred).T / n_cells  # S x M
    loadings = np.linalg.solve(gram, cross)
    noise = np.maximum(square - mean**2 - (cross * loadings).sum(0), _MIN_NOISE)
    return Factors(*(part.astype(np.float32) for part in (mean, loadings, noise, prior)))
