"""Geometric sketching: a sample that covers a space evenly."""

import numpy as np


def geometric_sketch(rows: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Indices of ``n`` of the rows ``(n_cells, d)`` that cover their space evenly.

    Hie et al., Cell Systems 8 (2019), doi:10.1016/j.cels.2019.05.003.
    """
    from geosketch import gs

    state = np.random.get_state()  # noqa: NPY002  (geosketch seeds the global generator)
    try:
        return np.asarray(gs(rows, n, replace=False, seed=seed))
    finally:
        np.random.set_state(state)  # noqa: NPY002
