"""Layers of metacells that are computed from counts: means of log counts, geometric means."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import scipy.sparse as sp

from scmetaq import _keys
from scmetaq.data._cells import canonical
from scmetaq.metrics._log_counts import log_normalise
from scmetaq.tl._summarize import sum_rows

_REGULARIZATION: Final = 1 / 16  # counts added to each in a geometric mean, as in metacells 2


def _log_counts(block: Any) -> sp.csr_matrix:
    return log_normalise(canonical(block), np.float64)


def log1p_mean(X: Any, of_cells: Any, weight: np.ndarray) -> sp.csr_matrix:
    """Mean of the log1p counts per 10k of each group, whose cells have that ``weight`` in all."""
    found = sum_rows(X, of_cells, len(weight), change=_log_counts)
    found.data /= np.repeat(weight, np.diff(found.indptr))
    return found.astype(np.float32)


def _log_ratios(block: Any) -> sp.csr_matrix:
    """Logs of counts over the regularization times those of the size of the cell, and of these."""
    X = canonical(block).astype(np.float64)
    size = np.log(np.maximum(np.asarray(X.sum(1)).ravel(), 1))
    X.data = np.log1p(X.data / _REGULARIZATION) * np.repeat(size, np.diff(X.indptr))
    return sp.hstack([X, sp.csr_matrix(np.stack([size, size**2], 1))], format="csr")


def geometric_fraction(X: Any, of_cells: Any, weight: np.ndarray) -> sp.csr_matrix:
    r"""Fractions of counts as of metacells 2; cells have :math:`u_i` counts, and :math:`r = 1/16`.

    .. math::
        f_{kg} \propto \Bigl(\exp \frac{\sum_i w_i \log \frac{x_{ig} + r}{u_i}}{\sum_i w_i}
        - \exp \frac{1}{n_k} \sum_i \log \frac{r}{u_i}\Bigr)_+, \qquad w_i = \log u_i,

    and zero where no cell has a count; they sum to one. Ben-Kiki et al., Genome Biology 2022.
    """
    found = sum_rows(X, of_cells, len(weight), change=_log_ratios)
    fraction = found[:, :-2]
    size, square = found[:, -2:].toarray().T
    row = np.repeat(np.arange(len(weight)), np.diff(fraction.indptr))
    mean, per_cell = np.maximum(size, 1e-12), np.exp(-size / weight)
    ratio = np.exp((fraction.data - square[row]) / mean[row])
    fraction.data = np.maximum(ratio - per_cell[row], 0)
    total = np.bincount(row, fraction.data, len(weight))
    fraction.data /= np.maximum(total, 1e-300)[row]
    fraction.eliminate_zeros()
    return fraction.astype(np.float32)


COMPUTED: Final[dict[str, Callable[[Any, Any, np.ndarray], sp.csr_matrix]]] = {
    _keys.LOG1P_MEAN: log1p_mean,
    _keys.GEOMETRIC_FRACTION: geometric_fraction,
}
"""Layers by the names that ask for them."""
