import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics._majority import count_labels


def test_counts_equal_crosstab(rng):
    assignment, labels = rng.integers(0, 9, 300), rng.choice(list("abcd"), 300)
    table = count_labels(assignment, labels)
    np.testing.assert_array_equal(table.counts.toarray(), pd.crosstab(assignment, labels))


def test_majority_of_a_tie_is_first_in_the_alphabet():
    table = count_labels([0, 0, 1, 1, 1], ["T", "B", "T", "T", "B"])
    assert table.labels.names[table.majority].tolist() == ["B", "T"]


def test_no_cell_with_both():
    with pytest.raises(ValueError, match="both a metacell and a label, found none"):
        count_labels(np.array([-1, 0]), pd.Series(["T", None]))
