"""Balanced accuracy of the majority label."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import recall_score

from scmetaq.metrics._majority import count_labels


def balanced_accuracy(assignment: ArrayLike, labels: ArrayLike) -> float:
    r"""Accuracy, averaged over labels, of giving each cell its metacell's majority label.

    .. math:: \frac{1}{|C|} \sum_{c \in C} \frac{|\{i : y_i = c, \hat y_i = c\}|}{|\{i : y_i = c\}|}

    where :math:`\hat y_i` is the most frequent label in the metacell of cell :math:`i` (the first
    in the alphabet on a tie). Rare labels weigh as much as frequent ones, so a label that is never
    the majority of a metacell costs :math:`1 / |C|`.

    Parameters
    ----------
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    labels
        Label of each cell, shape ``(n_cells,)``; missing: left out.

    Returns
    -------
    A number in [0, 1]; higher is better.

    References
    ----------
    Li et al., MetaQ, Nature Communications 2025, Eq. 22, with the majority label as prediction.
    """
    table = count_labels(assignment, labels)
    both = (table.metacells.codes >= 0) & (table.labels.codes >= 0)
    truth = table.labels.codes[both]
    predicted = table.majority[table.metacells.codes[both]]
    present = np.unique(truth)
    return float(recall_score(truth, predicted, labels=present, average="macro"))
