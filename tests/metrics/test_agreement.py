import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from scmetaq.metrics import agreement


@pytest.fixture
def groupings(rng):
    """An assignment of 300 cells, finer than their four labels, and these."""
    labels = rng.integers(0, 4, 300)
    return labels * 5 + rng.integers(0, 7, 300), labels


def test_agrees_with_sklearn(groupings):
    assignment, labels = groupings
    found = agreement(assignment, labels)
    assert found.ami == pytest.approx(sk.adjusted_mutual_info_score(assignment, labels))
    assert found.ari == pytest.approx(sk.adjusted_rand_score(assignment, labels))
    assert found.homogeneity == pytest.approx(sk.homogeneity_score(labels, assignment))
    assert found.completeness == pytest.approx(sk.completeness_score(labels, assignment))
    assert found.nmi == pytest.approx(sk.normalized_mutual_info_score(assignment, labels))
    assert found.fmi == pytest.approx(sk.fowlkes_mallows_score(assignment, labels))


def test_average_method_is_that_of_the_adjusted_mutual_information(groupings):
    found = {
        method: agreement(*groupings, average_method=method)
        for method in ("max", "arithmetic", "geometric", "min")
    }
    ami = [numbers.ami for numbers in found.values()]
    assert ami == sorted(ami)
    assert len({numbers[1:] for numbers in found.values()}) == len(set(ami)) - 3 == 1
    of_paper = sk.adjusted_mutual_info_score(*groupings, average_method="max")
    assert found["max"].ami == pytest.approx(of_paper)
    assert found["arithmetic"] == agreement(*groupings)
    with pytest.raises(ValueError, match=r"average_method 'mean': expected one of 'arithmetic'"):
        agreement(*groupings, average_method="mean")


def test_a_finer_grouping_is_homogeneous_but_not_the_reverse():
    fine, coarse = np.arange(12), np.arange(12) // 4
    assert agreement(fine, coarse).homogeneity == pytest.approx(1)
    assert agreement(coarse, fine).homogeneity < 0.6


def test_exchanging_the_groupings_exchanges_homogeneity_and_completeness(rng):
    a, b = rng.integers(0, 9, 200), rng.integers(0, 3, 200)
    there, back = agreement(a, b), agreement(b, a)
    assert there.homogeneity == pytest.approx(back.completeness)
    assert there.nmi == pytest.approx(back.nmi)


def test_names_do_not_matter_and_missing_cells_are_left_out():
    found = agreement(np.array([0, 0, 1, 1, -1]), pd.Series(["x", "x", "y", "y", "y"]))
    assert found == pytest.approx((1,) * 6)


def test_no_common_cell():
    with pytest.raises(ValueError, match="a group of both groupings, found none"):
        agreement(np.array([0, -1]), np.array([-1, 0]))
