import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics import purity


def test_agrees_with_counting_by_pandas(rng):
    assignment, labels = (
        pd.Series(rng.integers(0, 9, 300)),
        pd.Series(rng.choice(list("abcd"), 300)),
    )
    expected = labels.groupby(assignment).agg(lambda x: x.value_counts(normalize=True).iloc[0])
    found = purity(assignment, labels)
    np.testing.assert_allclose(found, expected)
    assert found.index.tolist() == expected.index.tolist()
    assert found.index.name == "metacell"


def test_agrees_with_seacells(of_seacells):
    """``SEACells.evaluate.compute_celltype_purity``."""
    found = purity(of_seacells["metacells"], of_seacells["labels"])
    np.testing.assert_allclose(found, of_seacells["purity"])
    assert 0 < found.min() < 0.9


def test_missing_labels_and_cells_do_not_count():
    assignment = pd.Series(["m0", "m0", "m0", "m1", None])
    labels = pd.Series(["T", "T", None, None, "B"])
    found = purity(assignment, labels)
    assert found["m0"] == 1
    assert np.isnan(found["m1"])
    assert len(found) == 2


def test_order_of_cells_does_not_matter(rng):
    assignment, labels = rng.integers(0, 9, 100), rng.choice(list("abc"), 100)
    order = rng.permutation(100)
    pd.testing.assert_series_equal(
        purity(assignment, labels), purity(assignment[order], labels[order])
    )


def test_lengths_differ():
    with pytest.raises(ValueError, match="found 3 and 2"):
        purity([0, 1, 1], ["T", "B"])


def test_decimal_numbers_are_no_labels():
    with pytest.raises(TypeError, match=r"Expected categories in `labels`, .* e\.g\. 0\.5\."):
        purity([0, 0, 1], [0.5, 1.0, 2.0])
    assert purity([0, 0, 1], [1.0, np.nan, 2.0]).tolist() == [1, 1]
