import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics import evaluate
from scmetaq.report import _metacells, _tables
from scmetaq.report._metacells import all_metacells, examine

PLACES = pd.DataFrame({"x": [0.25, 0.5], "y": [0.75, 0.5]}, ["a", "b"])


@pytest.fixture
def values():
    """Two dubious metacells, of which one is impure, an impure one, two others and one unjudged."""
    names = pd.Index(list("abcdef"), name="metacell")
    columns = {"n_cells": [10, 20, 30, 1000, 50, 2], "compactness": 0.5, "separation": 0.123456}
    columns |= {"divergence": [1.1, 1.3, 1.0, 0.9, 1.05, np.nan], "dubious": [0, 1, 1, 0, 0, 0]}
    return pd.DataFrame(columns, names).astype(float)


@pytest.fixture
def summary():
    purity = [0.4, 1.0, 0.3, 1.0, 1.0, 1.0]
    metacells = pd.DataFrame({"kind": list("TTBBTB"), "kind_fraction": purity}, list("abcdef"))
    return _tables.LabelSummary("kind", metacells, pd.DataFrame(), 0.8, 0.8)


def test_metacells_to_look_at_first_are_dubious_and_impure(values, summary):
    markers = pd.DataFrame({"top markers": ["CD3E", None]}, ["a", "b"])
    table = all_metacells(values, markers, [summary], PLACES)
    assert [row[0] for row in table.rows] == list("cbaedf")
    without = all_metacells(values, markers, [], PLACES)
    assert [row[0] for row in without.rows] == list("bcaedf")
    first = dict(zip([name for name, _ in table.columns], table.rows[2], strict=True))
    assert first == {
        "metacell": "a",
        "cells": 10,
        "kind": "T",
        "purity": 0.4,
        "top markers": "CD3E",
        "dubious": "no",
        "compactness": 0.5,
        "separation": 0.1235,
    }
    of = [name for name, _ in table.columns].index("dubious")
    assert [row[of] for row in table.rows] == ["dubious", "dubious", "no", "no", "no", None]
    assert table.places[:3] == [[None, None], [0.5, 0.5], [0.25, 0.75]]


def test_of_several_modalities_the_share_in_which_states_are_mixed_counts(values):
    both = values.rename(columns={"divergence": "divergence, rna", "dubious": "dubious, rna"})
    both["divergence, adt"], both["dubious, adt"] = 1.0, [0, 0, 1, 0, 0, 0]
    table = all_metacells(both, pd.DataFrame(index=values.index), [], PLACES)
    assert [row[0] for row in table.rows[:2]] == ["c", "b"]
    assert {"dubious, rna", "dubious, adt"} <= {name for name, _ in table.columns}


def test_markers_are_those_of_the_means_of_all_cells(adata, assignments):
    metrics = evaluate(adata, assignments["metacell"])
    _, markers = examine(adata, assignments["metacell"], metrics, None)
    dense = adata.X.toarray()[:59]
    logged = np.log1p(dense / dense.sum(1, keepdims=True) * 1e4)
    folds = logged[:5].mean(0) - logged.mean(0)
    expected = adata.var_names[np.argsort(-folds)[: _metacells.N_MARKERS]]
    assert markers.loc["mc0", "top markers"] == ", ".join(expected)
    assert list(markers.index) == [f"mc{i}" for i in range(6)]
    alone = pd.Series("all", adata.obs_names)
    _, none = examine(adata, alone, evaluate(adata, alone), None)
    assert none["top markers"].tolist() == [""]


def test_mixed_states_are_found_unless_the_metrics_have_them(adata, assignments):
    mixed = assignments["metacell"].replace({"mc3": "mc1"})
    metrics = evaluate(adata, mixed)
    found, _ = examine(adata, mixed, metrics, None)
    pd.testing.assert_frame_equal(found[: len(metrics)], metrics)
    told = found[found["metric"] == "dubious"].set_index("metacell")["value"]
    assert told["mc1"] == 1
    assert told["mc5"] == 0
    again, _ = examine(adata, mixed, found, None)
    pd.testing.assert_frame_equal(again, found)


def test_of_many_metacells_a_sample_is_tested(adata, assignments, monkeypatch):
    monkeypatch.setattr(_metacells, "MOST_TESTED", 4)
    metrics = evaluate(adata, assignments["metacell"])
    found, _ = examine(adata, assignments["metacell"], metrics, None)
    assert (found["metric"] == "dubious").sum() == 4
    values = _tables.metacell_values(found)
    table = all_metacells(values, pd.DataFrame(index=values.index), [], PLACES)
    of = [name for name, _ in table.columns].index("dubious")
    assert [row[of] for row in table.rows].count(None) == 2


def test_each_modality_has_its_markers_and_its_test(mdata, assignments):
    metrics = evaluate(mdata, assignments["metacell"])
    found, markers = examine(mdata, assignments["metacell"], metrics, None)
    assert list(markers) == ["top markers, rna", "top markers, adt"]
    assert markers["top markers, adt"].notna().sum() == 4
    assert "protein" in markers.loc["mc0", "top markers, adt"]
    tested = found[found["metric"] == "dubious"]
    assert tested["modality"].value_counts().to_dict() == {"rna": 6, "adt": 4}
