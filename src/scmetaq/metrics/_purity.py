"""Purity of metacells."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq.metrics._majority import count_labels


def purity(assignment: ArrayLike, labels: ArrayLike) -> pd.Series:
    r"""Fraction of each metacell's cells that carry its most frequent label.

    .. math:: \text{purity}(M) = \max_c \frac{|\{i \in M : y_i = c\}|}{|M|}

    Parameters
    ----------
    assignment
        Metacell of each cell, shape ``(n_cells,)``: names or numbers. Cells whose value is
        missing or -1 are in no metacell and left out.
    labels
        Label of each cell, shape ``(n_cells,)``. Cells without a label are left out.

    Returns
    -------
    Purity in (0, 1] per metacell, shape ``(n_metacells,)``; higher is better; NaN where no cell
    of the metacell has a label.

    References
    ----------
    Persad et al., SEACells infers transcriptional and epigenomic cellular states from single-cell
    genomics data, Nature Biotechnology 2023.
    """
    table = count_labels(assignment, labels)
    labelled = table.counts.sum(axis=1)  # K
    largest = table.counts.max(axis=1).toarray().ravel()  # K
    values = np.divide(largest, labelled, out=np.full(len(labelled), np.nan), where=labelled > 0)
    return pd.Series(values, index=table.metacells.names.rename(_keys.METACELL), name="purity")
