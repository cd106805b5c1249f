import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics import size_summary


def test_counts():
    found = size_summary(pd.Series(["a", "a", "a", "b", None]))
    assert found[:5] == (2, 1, 2.0, 1, 3)
    assert found.size_cv == pytest.approx(np.std([1, 3]) / np.mean([1, 3]))


def test_equal_sizes_do_not_vary():
    assert size_summary(np.repeat(np.arange(5), 4)).size_cv == 0
