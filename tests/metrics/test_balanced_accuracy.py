import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from scmetaq.metrics import balanced_accuracy


def test_agrees_with_sklearn_on_the_majority_label(rng):
    assignment = pd.Series(rng.integers(0, 12, 400))
    labels = pd.Series(rng.choice(list("abcd"), 400, p=[0.5, 0.3, 0.15, 0.05]))
    # value_counts breaks ties by first seen: sort so that the first seen is first in the alphabet
    order = labels.sort_values().index
    majority = labels[order].groupby(assignment[order]).agg(lambda x: x.value_counts().index[0])
    expected = balanced_accuracy_score(labels, majority.loc[assignment].to_numpy())
    assert balanced_accuracy(assignment, labels) == pytest.approx(expected)


def test_a_lost_label_costs_its_share():
    labels = ["T"] * 98 + ["rare"] * 2
    assert balanced_accuracy(np.zeros(100, int), labels) == pytest.approx(0.5)
    assert balanced_accuracy(np.array([0] * 98 + [1] * 2), labels) == 1


def test_a_label_only_outside_metacells_does_not_count():
    assert balanced_accuracy(np.array([0, 0, -1]), ["T", "T", "B"]) == 1
