"""Labels counted per metacell, from which purity and balanced accuracy follow."""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from scmetaq.metrics._groups import (
    Groups,
    check_categories,
    check_same_cells,
    group_cells,
    group_labels,
)


class LabelCounts(NamedTuple):
    """Cells per metacell and label, of the cells that have both.

    Attributes
    ----------
    counts
        Number of cells, shape ``(n_metacells, n_labels)``.
    metacells
        The cells' metacells.
    labels
        The cells' labels.
    """

    counts: sp.csr_array
    metacells: Groups
    labels: Groups

    @property
    def majority(self) -> np.ndarray:
        """Code of each metacell's most frequent label (first in the alphabet on a tie)."""
        return most_frequent(self.counts)  # K


def count_labels(assignment: Any, labels: Any) -> LabelCounts:
    """Count the labels of each metacell's cells.

    Parameters
    ----------
    assignment
        Metacell of each cell, shape ``(n_cells,)``; missing or -1: left out.
    labels
        Label of each cell, shape ``(n_cells,)``; missing: left out.
    """
    check_same_cells(assignment, labels)
    check_categories(labels, "labels")
    metacells, kinds = group_cells(assignment), group_labels(labels)
    both = (metacells.codes >= 0) & (kinds.codes >= 0)
    if not both.any():
        raise ValueError(
            "Expected cells with both a metacell and a label, found none. "
            "Check that the two columns are of the same cells."
        )
    shape = (len(metacells.names), len(kinds.names))
    counts = tally(metacells.codes[both], kinds.codes[both], shape)
    return LabelCounts(counts, metacells, kinds)


def most_frequent(counts: sp.csr_array) -> np.ndarray:
    """Column of the largest count of each row, the first on a tie."""
    return np.asarray(counts.argmax(axis=1)).ravel()


def tally(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sp.csr_array:
    """Count the pairs of two codings of the same cells."""
    ones = np.ones(len(rows), dtype=np.int64)
    return sp.coo_array((ones, (rows, columns)), shape=shape).tocsr()
