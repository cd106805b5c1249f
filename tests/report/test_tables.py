import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmetaq.metrics import balanced_accuracy, evaluate, mixing, purity
from scmetaq.report import _tables


@pytest.fixture
def metrics(adata, assignments):
    return evaluate(adata, assignments["metacell"], "cell_type")


OF_COUNTS = ["compactness", "separation", "INV", "inner fold", "inner stdev"]


def test_values_of_a_metacell_are_its_own(adata, metrics):
    """The mean correlation of the cells of one metacell, computed pair by pair."""
    values = _tables.metacell_values(metrics)
    dense = adata.X.toarray()
    logged = np.log1p(dense / dense.sum(1, keepdims=True) * 1e4)
    assert values.loc["mc0", "compactness"] == pytest.approx(np.corrcoef(logged[:5]).mean())
    assert values.loc["mc1", "n_cells"] == 15


def test_quality_gives_the_papers_means_and_sizes_count_cells_without_a_metacell(metrics):
    rows = {row.name: row for row in _tables.quality_rows(metrics)}
    assert list(rows)[: len(OF_COUNTS)] == OF_COUNTS
    assert list(rows)[len(OF_COUNTS) :] == ["purity", "accuracy", "entropy", "balanced accuracy"]
    assert rows["INV"].better == rows["entropy"].better == "lower"
    for name in ("compactness", "separation"):
        mean = metrics.loc[metrics["metric"] == name, "value"].mean()
        assert rows[name].values[0][0] == f"{mean:.3f}"
        assert rows[name].better == "higher"
    assert rows["purity"].values[0][1] == "1.000 – 1.000"
    sizes = dict(_tables.size_rows(metrics))
    assert sizes["cells without a metacell"] == "1"
    assert sizes["metacells"] == "6"
    assert sizes["cells in the largest"] == "15"


def test_quantization_names_what_the_report_has():
    rows = _tables.quantization_rows({"n_empty": 3, "mean_margin": 0.00012, "other": 1})
    found = [(row.name, row.values[0][0]) for row in rows]
    assert found == [("mean margin", "0.00012"), ("empty", "3")]
    rows = _tables.quantization_rows({"reconstruction_ratio": 1, "reconstruction_ratio_rna": 0.5})
    assert [row.name for row in rows] == ["reconstruction ratio", "reconstruction ratio, rna"]
    assert [bool(row.meaning) for row in rows] == [True, False]


def test_numbers_are_readable():
    values = {1600: "1,600 1600.000", 39.5: "39.5 39.500", 0.0004: "0.0004 0.00040"}
    values |= {1.0: "1 1.000", 0.0: "0 0.000", np.nan: "– –"}
    for value, texts in values.items():
        assert [_tables.number(value), _tables.decimal(value)] == texts.split()


def test_every_metric_with_a_direction_has_its_row_but_no_purity_without_labels(adata, assignments):
    frame = evaluate(adata, assignments["metacell"])
    assert [row.name for row in _tables.quality_rows(frame)] == OF_COUNTS
    assert isinstance(_tables.metacell_values(frame), pd.DataFrame)
    frame = evaluate(
        adata, assignments["metacell"], "cell_type", conditions="cell_type", find_dubious=True
    )
    rows = [row.name for row in _tables.quality_rows(frame)]
    directed = frame.loc[frame["better"] != "", "metric"].unique()
    expected = {_tables.in_words(n) for n in directed} - {"unassigned"}
    assert set(rows) == expected


def test_modalities_stand_side_by_side(mdata, assignments):
    frame = evaluate(mdata, assignments["metacell"], mdata["rna"].obs["cell_type"])
    assert _tables.modalities(frame) == ["rna", "adt"]
    rows = _tables.quality_rows(frame, ["rna", "adt"])
    assert [row.name for row in rows] == OF_COUNTS
    for row, metric in zip(rows[:3], ("compactness", "separation", "inv"), strict=True):
        for (value, middle), name in zip(row.values, ("rna", "adt"), strict=True):
            found = frame[(frame["metric"] == metric) & (frame["modality"] == name)]
            assert value == f"{found['value'].mean():.3f}"
            assert "–" in middle
    joint = _tables.quality_rows(_tables.of_modality(frame, None))
    assert [row.name for row in joint] == ["purity", "accuracy", "entropy", "balanced accuracy"]


def test_values_of_metacells_name_their_modality(mdata, assignments):
    frame = evaluate(mdata, assignments["metacell"])
    values = _tables.metacell_values(frame)
    assert values["n_cells"].sum() == 59
    assert {"compactness, rna", "separation, adt"} <= set(values)


def test_tiles_show_means_and_cells_without_a_metacell_if_there_are_any():
    names = ["unassigned", "accuracy", "purity", "purity", "unassigned", "compactness"]
    values = {"value": [0, 0.5, 0.25, 0.75, 3, 1], "modality": [None] * 4 + ["rna"] * 2}
    better = ["", "higher", "higher", "higher", "", "higher"]
    frame = pd.DataFrame({"metric": names, **values, "better": better})
    assert _tables.tiles(frame) == [
        ("3", "cells without a metacell, rna", ""),
        ("1.000", "compactness, rna", "higher"),
        ("0.500", "purity", "higher"),
        ("0.500", "accuracy", "higher"),
    ]


def test_forms_of_an_assignment_and_of_its_numbers_are_the_same(adata, assignments):
    names = assignments["metacell"]
    adata.obs["mine"] = names
    forms = [assignments[::-1], names, "mine", names.to_numpy(), names.tolist()]
    tables = [_tables.read_assignments(adata, form) for form in forms]
    for table in tables:
        pd.testing.assert_series_equal(table["metacell"], tables[0]["metacell"])
    assert tables[0].index.equals(adata.obs_names)
    assert tables[0]["margin"].equals(assignments["margin"])
    assert tables[0]["metacell"].tolist()[:2] == ["mc0", "mc0"]
    numbers = pd.Series([7.0, np.nan, 3.0], adata.obs_names[:3])
    found = _tables.read_assignments(adata, numbers)["metacell"]
    assert found.dropna().to_dict() == {"cell0": "7", "cell2": "3"}
    mixed = pd.Series([1, "1", -1], adata.obs_names[:3], dtype=object)
    assert _tables.read_assignments(adata, mixed)["metacell"].dropna().tolist() == ["1", "1"]


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
            _tables.read_assignments(adata, form)


@pytest.fixture
def columns(rng):
    assignment = pd.Series(rng.choice([f"mc{i}" for i in range(8)], 200), name="metacell")
    labels = pd.Series(rng.choice(list("abcd"), 200, p=[0.6, 0.3, 0.07, 0.03]), name="kind")
    return assignment, labels.astype("category")


def test_numbers_are_those_of_the_metrics_and_all_are_counted_once(columns):
    summary, expected = _tables.summarize_labels(*columns), purity(*columns)
    np.testing.assert_allclose(summary.metacells["kind_fraction"], expected)
    assert list(summary.metacells.index) == list(expected.index)
    assert summary.purity == pytest.approx(expected.mean())
    assert summary.labels["kept"].mean() == pytest.approx(balanced_accuracy(*columns))
    labels = _tables.summarize_labels(*columns).labels
    assert labels["n_cells"].sum() == 200
    assert labels["n_metacells"].sum() == 8
    assert labels["n_cells"].is_monotonic_decreasing


def test_labels_without_a_metacell_are_named_and_cells_without_either_left_out():
    """The colours of the others follow from their place among all."""
    labels = pd.Series(["a", "a", "a", "rare", "b", "b"], name="kind", dtype="category")
    summary = _tables.summarize_labels(pd.Series(["x"] * 4 + ["y"] * 2), labels)
    assert summary.lost == ["rare"]
    assert summary.labels.loc["rare", "kept"] == 0
    assert list(summary.metacells["kind"].cat.categories) == ["a", "b", "rare"]
    assignment = pd.Series(["x", "x", None, "y"], dtype=object)
    labels = pd.Series(["a", None, "b", "c"], name="kind", dtype="category")
    summary = _tables.summarize_labels(assignment, labels)
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
    labels, colors = _tables.find_labels(AnnData(obs=obs), "kind", what="labels_key")
    assert labels.astype(object).where(labels.notna(), None).tolist() == expected
    assert list(labels.cat.categories) == categories
    assert colors is None


def test_labels_of_a_modality_are_those_of_all_cells(mdata):
    mdata["adt"].obs["clone"] = pd.Categorical(["c1", "c2"] * 20)
    mdata["adt"].uns["clone_colors"] = ["#123456", "#654321"]
    labels, colors = _tables.find_labels(mdata, "adt:clone", what="labels_key")
    assert list(labels.index) == list(mdata.obs_names)
    assert labels.name == "clone"
    assert labels.notna().sum() == 40
    assert colors == ["#123456", "#654321"]
    mdata.obs["clone"] = "all"
    assert set(_tables.find_labels(mdata, "clone", what="labels_key")[0]) == {"all"}
    with pytest.raises(KeyError, match="missing"):
        _tables.find_labels(mdata, "missing", what="labels_key")


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
    found, expected = _tables.summarize_conditions(*cells), pd.crosstab(*cells[:2])
    for name in ("x", "y"):
        assert found.counts[name].to_dict() == expected[name].to_dict()
    assert (found.counts["z"] == 0).all()
    assert found.categories["n_cells"].to_dict() == {**expected.sum().to_dict(), "z": 0}
    x_alone = expected.loc["mc5", "x"] / expected["x"].sum()
    np.testing.assert_allclose(found.categories["alone"], [0, x_alone, 0])
    assert found.categories["n_metacells"].to_dict() == {"y": 7, "x": 8, "z": 0}
    found, expected = _tables.summarize_conditions(*cells), mixing(*cells)
    assert (found.mixing, found.one_condition) == (expected.mixing, expected.one_condition)
    assert found.groups.tolist() == ["T"] * 5 + ["B"] * 3
    assert found.counts.index[0] == "mc5"
    for names in (found.counts.index[:5], found.counts.index[5:]):
        assert expected.of_metacell[names].is_monotonic_increasing
    without = _tables.summarize_conditions(*cells[:2])
    assert without.groups is None
    assert len(without.counts) == 8
