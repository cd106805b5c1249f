import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics import evaluate
from scmetaq.report import _tables


@pytest.fixture
def metrics(adata, assignments):
    return evaluate(adata, assignments["metacell"], "cell_type")


def test_values_of_a_metacell_are_its_own(adata, metrics):
    """The mean correlation of the cells of one metacell, computed pair by pair."""
    values = _tables.metacell_values(metrics)
    dense = adata.X.toarray()
    logged = np.log1p(dense / dense.sum(1, keepdims=True) * 1e4)
    assert values.loc["mc0", "compactness"] == pytest.approx(np.corrcoef(logged[:5]).mean())
    assert values.loc["mc1", "n_cells"] == 15


def test_quality_gives_the_papers_means_and_sizes_count_cells_without_a_metacell(metrics):
    rows = {row.name: row for row in _tables.quality_rows(metrics)}
    expected = ["compactness", "separation", "INV", "purity", "accuracy", "entropy"]
    assert list(rows) == [*expected, "balanced accuracy"]
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


def test_doubtful_metacells_come_first(metrics, assignments):
    values = _tables.metacell_values(metrics)
    chosen_by, table = _tables.doubtful_metacells(values, assignments, None)
    assert chosen_by == "mean margin"
    assert table.index[0] == "mc3"
    chosen_by, table = _tables.doubtful_metacells(values, assignments[["metacell"]], None)
    assert chosen_by == "compactness"
    assert table.index[0] == values["compactness"].idxmin()


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
    assert [row.name for row in _tables.quality_rows(frame)] == ["compactness", "separation", "INV"]
    assert isinstance(_tables.metacell_values(frame), pd.DataFrame)
    frame = evaluate(
        adata, assignments["metacell"], "cell_type", conditions="cell_type", find_dubious=True
    )
    rows = [row.name for row in _tables.quality_rows(frame)]
    directed = frame.loc[frame["better"] != "", "metric"].unique()
    expected = {_tables._in_words(n) for n in directed} - {"unassigned"}
    assert set(rows) == expected


def test_modalities_stand_side_by_side(mdata, assignments):
    frame = evaluate(mdata, assignments["metacell"], mdata["rna"].obs["cell_type"])
    assert _tables.modalities(frame) == ["rna", "adt"]
    rows = _tables.quality_rows(frame, ["rna", "adt"])
    assert [row.name for row in rows] == ["compactness", "separation", "INV"]
    for row, metric in zip(rows, ("compactness", "separation", "inv"), strict=True):
        for (value, middle), name in zip(row.values, ("rna", "adt"), strict=True):
            found = frame[(frame["metric"] == metric) & (frame["modality"] == name)]
            assert value == f"{found['value'].mean():.3f}"
            assert "–" in middle
    joint = _tables.quality_rows(_tables.of_modality(frame, None))
    assert [row.name for row in joint] == ["purity", "accuracy", "entropy", "balanced accuracy"]


def test_metacells_doubtful_in_all_modalities_come_first(mdata, assignments):
    frame = evaluate(mdata, assignments["metacell"])
    values = _tables.metacell_values(frame)
    assert values["n_cells"].sum() == 59
    _, table = _tables.doubtful_metacells(values, assignments[["metacell"]], None)
    assert {"compactness, rna", "separation, adt"} <= set(table)
    rank = values.filter(like="compactness").rank().mean(axis=1)
    assert table.index[0] == rank.idxmin()


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
