import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy as scipy_entropy

from scmetaq.metrics import entropy


def test_agrees_with_scipy(rng):
    assignment, labels = (
        pd.Series(rng.integers(0, 9, 300)),
        pd.Series(rng.choice(list("abcd"), 300)),
    )
    found = entropy(assignment, labels)
    np.testing.assert_allclose(found, scipy_entropy(pd.crosstab(assignment, labels), axis=1))
    assert found.name == "entropy"


def test_it_is_zero_for_one_label_and_in_nats():
    found = entropy([0, 0, 1, 1], ["T", "T", "T", "B"])
    assert found[0] == 0
    assert not np.signbit(found[0])
    assert found[1] == pytest.approx(np.log(2))


def test_missing_labels_do_not_count():
    found = entropy([0, 0, 0, 1], pd.Series(["T", "B", None, None]))
    assert found[0] == pytest.approx(np.log(2))
    assert np.isnan(found[1])
