import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics import balanced_accuracy, purity
from scmetaq.report._labels import as_labels, as_text, find_labels, summarize_labels


@pytest.fixture
def columns(rng):
    assignment = pd.Series(rng.choice([f"mc{i}" for i in range(8)], 200), name="metacell")
    labels = pd.Series(rng.choice(list("abcd"), 200, p=[0.6, 0.3, 0.07, 0.03]), name="kind")
    return assignment, labels.astype("category")


def test_numbers_are_those_of_the_metrics(columns):
    assignment, labels = columns
    summary = summarize_labels(assignment, labels)
    expected = purity(assignment, labels)
    np.testing.assert_allclose(summary.metacells["kind_fraction"], expected)
    assert list(summary.metacells.index) == list(expected.index)
    assert summary.purity == pytest.approx(expected.mean())
    assert summary.labels["kept"].mean() == pytest.approx(balanced_accuracy(assignment, labels))


def test_every_cell_and_metacell_is_counted_once(columns):
    summary = summarize_labels(*columns)
    assert summary.labels["n_cells"].sum() == 200
    assert summary.labels["n_metacells"].sum() == 8
    assert summary.labels["n_cells"].is_monotonic_decreasing


def test_labels_without_a_metacell_are_named():
    assignment = pd.Series(["x"] * 4 + ["y"] * 2)
    labels = pd.Series(["a", "a", "a", "rare", "b", "b"], name="kind", dtype="category")
    summary = summarize_labels(assignment, labels)
    assert summary.lost == ["rare"]
    assert summary.labels.loc["rare", "kept"] == 0


def test_cells_without_metacell_or_label_are_left_out():
    assignment = pd.Series(["x", "x", None, "y"], dtype=object)
    labels = pd.Series(["a", None, "b", "c"], name="kind", dtype="category")
    summary = summarize_labels(assignment, labels)
    assert summary.labels["n_cells"].to_dict() == {"a": 1, "c": 1}


def test_labels_keep_their_order_and_are_text():
    ordered = pd.Series(pd.Categorical([2, 10, None], categories=[10, 2]))
    assert list(as_labels(ordered).cat.categories) == ["10", "2"]
    assert list(as_labels(pd.Series(["b", "a", None])).cat.categories) == ["a", "b"]


def test_numbers_with_missing_ones_are_names_without_a_point():
    assert as_text(pd.Series([7, np.nan]))[0] == "7"
    assert as_text(pd.Series([7, np.nan])).isna().tolist() == [False, True]
    assert as_text(pd.Series([0.5, 1.0]))[0] == "0.5"


def test_lost_labels_stay_categories():
    """The colours of the others follow from their place among all."""
    assignment = pd.Series(["x"] * 3)
    labels = pd.Series(["a", "b", "b"], name="kind", dtype="category")
    metacells = summarize_labels(assignment, labels).metacells
    assert list(metacells["kind"].cat.categories) == ["a", "b"]


def test_labels_of_a_modality_are_those_of_all_cells(mdata):
    mdata["adt"].obs["clone"] = pd.Categorical(["c1", "c2"] * 20)
    mdata["adt"].uns["clone_colors"] = ["#123456", "#654321"]
    labels, colors = find_labels(mdata, "adt:clone", what="labels_key")
    assert list(labels.index) == list(mdata.obs_names)
    assert labels.name == "clone"
    assert labels.notna().sum() == 40
    assert colors == ["#123456", "#654321"]
    mdata.obs["clone"] = "all"
    assert set(find_labels(mdata, "clone", what="labels_key")[0]) == {"all"}
    with pytest.raises(KeyError, match="missing"):
        find_labels(mdata, "missing", what="labels_key")
