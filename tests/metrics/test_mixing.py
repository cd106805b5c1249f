import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics import mixing


def shannon(values):
    share = np.unique(values, return_counts=True)[1] / len(values)
    return -(share * np.log(share)).sum()


def by_loop(assignment, conditions, labels):
    """Weighted mean, share of cells with one condition, by going through the metacells."""
    sizes, values, alone = [], [], 0
    for metacell in np.unique(assignment):
        inside = assignment == metacell
        names, counts = np.unique(labels[inside], return_counts=True)
        possible = shannon(conditions[labels == names[counts.argmax()]])
        if possible > 0:
            sizes.append(inside.sum())
            values.append(min(1, shannon(conditions[inside]) / possible))
            alone += inside.sum() if len(set(conditions[inside])) == 1 else 0
    return np.average(values, weights=sizes), alone / sum(sizes)


@pytest.fixture
def cells(rng):
    """Metacells, conditions and labels of 400 cells; label "d" occurs in one condition only."""
    labels = np.sort(rng.choice(list("abcd"), 400))
    conditions = rng.choice(["x", "y", "z"], 400, p=[0.6, 0.3, 0.1])
    conditions[labels == "d"] = "x"
    assignment = np.sort(rng.integers(0, 60, 400))
    return assignment, conditions, labels


def test_agrees_with_a_loop(cells):
    found = mixing(*cells)
    assert found[:2] == pytest.approx(by_loop(*cells), rel=1e-12)
    assert found.of_metacell.between(0, 1).sum() + found.of_metacell.isna().sum() == 60
    assert found.of_metacell.isna().any()
    assert (found.of_metacell == 0).any()


def test_without_labels_all_cells_are_alike(cells):
    assignment, conditions, _ = cells
    expected = by_loop(assignment, conditions, np.full(400, "all"))
    assert mixing(assignment, conditions)[:2] == pytest.approx(expected)


def test_order_and_names_do_not_matter(cells, rng):
    order = rng.permutation(400)
    renamed = [pd.Series(values[order]).map(lambda v: f"n{v}") for values in cells]
    assert mixing(*renamed)[:2] == pytest.approx(mixing(*cells)[:2])


def test_extremes():
    conditions = ["x", "y"] * 20
    apart, together = np.tile([0, 1], 20), np.repeat(np.arange(10), 4)
    assert mixing(apart, conditions)[:2] == (0, 1)
    assert mixing(together, conditions)[:2] == (1, 0)


def test_cells_that_lack_anything_are_as_if_absent(cells):
    assignment, conditions, labels = (pd.Series(v).astype(object) for v in cells)
    for start, column in enumerate((assignment, conditions, labels)):
        column[start::10] = None
    known = (assignment.notna() & conditions.notna() & labels.notna()).to_numpy()
    assert mixing(assignment, conditions, labels)[:2] == pytest.approx(
        by_loop(*(values[known] for values in cells))
    )


def test_where_nothing_can_mix_there_is_no_number():
    found = mixing([0, 0, 1], ["x", "x", "x"])
    assert np.isnan(found[:2]).all()
    assert found.of_metacell.isna().all()


def test_bad_columns_are_refused(cells):
    assignment, conditions, labels = cells
    with pytest.raises(ValueError, match="found 400 and 399"):
        mixing(assignment, conditions[1:])
    with pytest.raises(ValueError, match="Expected conditions, found 400"):
        mixing(assignment, pd.Series([None] * 400))
    with pytest.raises(ValueError, match="a metacell, a condition and a label, found none"):
        mixing([0, -1], ["x", "y"], pd.Series([None, "a"]))


def test_decimal_numbers_are_no_labels():
    with pytest.raises(TypeError, match="Expected categories in `labels`"):
        mixing([0, 0, 1], ["a", "b", "a"], [0.5, 1.0, 2.0])
    # doses, say
    assert mixing([0, 0, 1, 1], [0.1, 2.5, 0.1, 2.5]).mixing == 1
