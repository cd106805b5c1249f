import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics._groups import (
    check_categories,
    check_same_order,
    group_cells,
    group_labels,
    size_summary,
)

WITHOUT = [3, 5, -1, 3]


@pytest.mark.parametrize(
    "values",
    [
        WITHOUT,
        *(make(WITHOUT) for make in (np.array, pd.Series, pd.Categorical)),
        np.array([3.0, 5.0, np.nan, 3.0]),
        pd.Series([3, 5, None, 3], dtype="Int64"),
    ],
)
def test_outliers_are_left_out_and_numbers_stay_whole(values):
    groups = group_cells(values)
    assert groups.codes.tolist() == [0, 1, -1, 0]
    assert groups.names.astype(str).tolist() == ["3", "5"]
    assert groups.sizes.tolist() == [2, 1]
    assert [rows.tolist() for rows in groups.members] == [[0, 3], [1]]
    assert groups.n_grouped == 3


def test_names_are_sorted_but_a_categorical_keeps_its_order_and_labels_are_text():
    names = ["b", np.nan, "a"]
    for values in (names, pd.Series(names)):
        assert group_cells(values).names.tolist() == ["a", "b"]
        assert group_cells(values).codes.tolist() == [1, -1, 0]
    ordered = pd.Categorical(names, categories=["unused", "b", "a"])
    assert group_cells(ordered).names.tolist() == ["b", "a"]
    assert group_labels(ordered).names.tolist() == ["a", "b"]
    assert group_labels(ordered).codes.tolist() == [1, -1, 0]
    assert group_labels(np.array([-1, 4])).names.tolist() == ["-1", "4"]


def test_columns_without_groups_and_different_cells_are_refused():
    for values, match in (
        ([], r"shape \(n_cells,\), found shape \(0,\)"),
        ([[1, 2]], r"shape \(n_cells,\), found shape \(1, 2\)"),
        (np.float64(3), r"shape \(n_cells,\), found shape \(\)"),
        (np.array([0.0, np.inf]), "names or whole numbers, .* found an infinite one"),
        (np.array([-1, -1]), "at least one cell with a metacell, found none among 2"),
    ):
        with pytest.raises(ValueError, match=match):
            group_cells(values)
    with pytest.raises(ValueError, match="Expected donors, found 2 cells of which every one is"):
        group_labels(pd.Series([None, None], dtype="category"), what="donors")
    table, column = pd.DataFrame({"x": [1, 2]}, ["a", "b"]), pd.Series([1, 2], ["b", "a"])
    with pytest.raises(ValueError, match="the same index in both, .* another order"):
        check_same_order(table, column)
    check_same_order(table, column.to_numpy())
    check_same_order(table, column[["a", "b"]])


@pytest.mark.parametrize("make", [list, pd.Series, lambda names: np.array(names, object)])
def test_a_number_and_its_text_are_one_metacell_and_minus_one_is_none(make):
    """Pandas reads a long column in parts: some as numbers, others as text."""
    groups = group_cells(make([1, "1", 2.0, "2", "mc", None, -1, "-1"]))
    of_cells = [str(groups.names[code]) if code >= 0 else None for code in groups.codes]
    assert of_cells == ["1", "1", "2", "2", "mc", None, None, None]
    assert len(groups.names) == 3
    for groups in map(group_cells, (pd.Categorical(["0", "-1", "1"]), make(["0", "-1", "1"]))):
        assert groups.names.tolist() == ["0", "1"]
        assert groups.codes.tolist() == [0, -1, 1]


@pytest.mark.parametrize("make", [list, pd.Series, lambda x: np.array(x, object), pd.array])
def test_decimal_numbers_are_no_categories(make):
    with pytest.raises(TypeError, match=r"`labels`, found decimal numbers, e\.g\. 0\.25\."):
        check_categories(make([1.0, 0.25, None]), "labels")
    check_categories(make([1.0, 2.0, None]), "labels")
    check_categories(pd.Categorical([0.25, 0.5]), "labels")


def test_sizes_are_summarised():
    found = size_summary(pd.Series(["a", "a", "a", "b", None]))
    assert found[:5] == (2, 1, 2.0, 1, 3)
    assert found.size_cv == pytest.approx(np.std([1, 3]) / np.mean([1, 3]))
    assert size_summary(np.repeat(np.arange(5), 4)).size_cv == 0
