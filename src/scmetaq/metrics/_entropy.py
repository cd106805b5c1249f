"""Entropy of labels within metacells."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq.metrics._majority import count_labels


def entropy(assignment: ArrayLike, labels: ArrayLike) -> pd.Series:
    r"""Shannon entropy of the labels of each metacell's cells.

    .. math:: H(M) = -\sum_c p_c \ln p_c, \quad p_c = \frac{|\{i \in M : y_i = c\}|}{|M|}

    Where purity sees only the majority label, entropy also tells two labels from five in the rest.

    Parameters
    ----------
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    labels
        Label of each cell, shape ``(n_cells,)``; missing: left out.

    Returns
    -------
    Entropy in nats per metacell, shape ``(n_metacells,)``; not normalised: 0 for one label, at
    most the logarithm of the number of labels. Lower is better; NaN where no cell of the metacell
    has a label.

    References
    ----------
    Shannon, A mathematical theory of communication, Bell System Technical Journal 1948.
    """
    table = count_labels(assignment, labels)
    values = row_entropies(table.counts)
    return pd.Series(values, index=table.metacells.names.rename(_keys.METACELL), name="entropy")


def row_entropies(counts: sp.csr_array) -> np.ndarray:
    """Entropy in nats of each row of a table of counts; NaN for an empty row."""
    totals = counts.sum(axis=1)
    row = np.repeat(np.arange(len(totals)), np.diff(counts.indptr))
    share = counts.data / totals[row]
    sums = np.bincount(row, weights=share * np.log(share), minlength=len(totals))
    return np.where(totals > 0, np.abs(sums), np.nan)
