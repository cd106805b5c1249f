import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmetaq.metrics import balanced_accuracy, mixing, purity
from scmetaq.report._tables import (
    find_labels,
    read_assignments,
    summarize_conditions,
    summarize_labels,
)


def test_forms_of_an_assignment_and_of_its_numbers_are_the_same(adata, assignments):
    names = assignments["metacell"]
    adata.obs["mine"] = names
    forms = [assignments[::-1], names, "mine", names.to_numpy(), names.tolist()]
    tables = [read_assignments(adata, form) for form in forms]
    for table in tables:
        pd.testing.assert_series_equal(table["metacell"], tables[0]["metacell"])
    assert tables[0].index.equals(adata.obs_names)
    assert tables[0]["margin"].equals(assignments["margin"])
    assert tables[0]["metacell"].tolist()[:2] == ["mc0", "mc0"]
    numbers = pd.Series([7.0, np.nan, 3.0], adata.obs_names[:3])
    found = read_assignments(adata, numbers)["metacell"]
    assert found.dropna().to_dict() == {"cell0": "7", "cell2": "3"}
    mixed = pd.Series([1, "1", -1], adata.obs_names[:3], dtype=object)
    assert read_assignments(adata, mixed)["metacell"].dropna().tolist() == ["1", "1"]


def test_bad_assignments_are_refused(adata, assignments):
    renamed = assignments.rename(columns={"metacell": "mc"})
    numbered = assignments.reset_index(drop=True)
    for form, error, match in (
        (renamed, KeyError, r"with the column 'metacell', found \['mc', 'margin'\]"),
        (pd.concat([assignments] * 2), ValueError, "once, e.g. 'cell0'"),
        (numbered, ValueError, r"by barcode \(e.g. 'cell0'\), .*\(e.g. 0\)"),
        (np.zeros(59), ValueError, r"`assignments` of shape \(60,\).*found shape \(59,\)"),
        ("mine", KeyError, "`assignments` to name a column of `obs`, found no 'mine'"),
    ):
        with pytest.raises(error, match=match):
            read_assignments(adata, form)


@pytest.fixture
def columns(rng):
    assignment = pd.Series(rng.choice([f"mc{i}" for i in range(8)], 200), name="metacell")
    labels = pd.Series(rng.choice(list("abcd"), 200, p=[0.6, 0.3, 0.07, 0.03]), name="kind")
    return assignment, labels.astype("category")


def test_numbers_are_those_of_the_metrics_and_all_are_counted_once(columns):
    summary, expected = summarize_labels(*columns), purity(*columns)
    np.testing.assert_allclose(summary.metacells["kind_fraction"], expected)
    assert list(summary.metacells.index) == list(expected.index)
    assert summary.purity == pytest.approx(expected.mean())
    assert summary.labels["kept"].mean() == pytest.approx(balanced_accuracy(*columns))
    labels = summarize_labels(*columns).labels
    assert labels["n_cells"].sum() == 200
    assert labels["n_metacells"].sum() == 8
    assert labels["n_cells"].is_monotonic_decreasing


def test_labels_without_a_metacell_are_named_and_cells_without_either_left_out():
    """The colours of the others follow from their place among all."""
    labels = pd.Series(["a", "a", "a", "rare", "b", "b"], name="kind", dtype="category")
    summary = summarize_labels(pd.Series(["x"] * 4 + ["y"] * 2), labels)
    assert summary.lost == ["rare"]
    assert summary.labels.loc["rare", "kept"] == 0
    assert list(summary.metacells["kind"].cat.categories) == ["a", "b", "rare"]
    assignment = pd.Series(["x", "x", None, "y"], dtype=object)
    labels = pd.Series(["a", None, "b", "c"], name="kind", dtype="category")
    summary = summarize_labels(assignment, labels)
    assert summary.labels["n_cells"].to_dict() == {"a": 1, "c": 1}


@pytest.mark.parametrize(
    ("values", "expected", "categories"),
    [
        (pd.Categorical([2, 10, None], [10, 2, 5]), ["2", "10", None], ["10", "2", "5"]),
        (["b", "a", None], ["b", "a", None], ["a", "b"]),
        ([7, np.nan, np.nan], ["7", None, None], ["7"]),
        ([0.5, 1.0, np.nan], ["0.5", "1.0", None], ["0.5", "1.0"]),
    ],
)
def test_labels_keep_their_order_and_are_text(values, expected, categories):
    obs = pd.DataFrame({"kind": values}, ["c0", "c1", "c2"])
    labels, colors = find_labels(AnnData(obs=obs), "kind", what="labels_key")
    assert labels.astype(object).where(labels.notna(), None).tolist() == expected
    assert list(labels.cat.categories) == categories
    assert colors is None


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


@pytest.fixture
def cells(rng):
    """200 cells in eight metacells, two labels and three batches; some values are missing."""
    metacell = pd.Series([f"mc{i}" for i in rng.integers(0, 8, 200)], dtype=object)
    batch = pd.Series(pd.Categorical(rng.choice(["x", "y"], 200), ["y", "x", "z"]), name="batch")
    label = pd.Series(pd.Categorical(np.where(metacell < "mc3", "B", "T")))
    batch[metacell == "mc5"] = "x"
    batch[:5], metacell[5:10] = None, None
    return metacell, batch, label


def test_counts_of_conditions_are_those_of_pandas_sorted_by_label_and_mixing(cells):
    found, expected = summarize_conditions(*cells), pd.crosstab(*cells[:2])
    for name in ("x", "y"):
        assert found.counts[name].to_dict() == expected[name].to_dict()
    assert (found.counts["z"] == 0).all()
    assert found.categories["n_cells"].to_dict() == {**expected.sum().to_dict(), "z": 0}
    x_alone = expected.loc["mc5", "x"] / expected["x"].sum()
    np.testing.assert_allclose(found.categories["alone"], [0, x_alone, 0])
    assert found.categories["n_metacells"].to_dict() == {"y": 7, "x": 8, "z": 0}
    found, expected = summarize_conditions(*cells), mixing(*cells)
    assert (found.mixing, found.one_condition) == (expected.mixing, expected.one_condition)
    assert found.groups.tolist() == ["T"] * 5 + ["B"] * 3
    assert found.counts.index[0] == "mc5"
    for names in (found.counts.index[:5], found.counts.index[5:]):
        assert expected.of_metacell[names].is_monotonic_increasing
    without = summarize_conditions(*cells[:2])
    assert without.groups is None
    assert len(without.counts) == 8
