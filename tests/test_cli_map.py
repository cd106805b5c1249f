"""``scmetaq map``: exit status, messages, and what it leaves on disk."""

import anndata
import numpy as np
import pandas as pd
import pytest

import scmetaq
from scmetaq.cli import _map


@pytest.fixture(scope="module")
def cells(blood):
    """200 real cells of three lanes."""
    adata = blood[:200].copy()
    adata.obs["lane"] = np.array(["l1", "l2", "l3"])[np.arange(200) % 3]
    return adata


@pytest.fixture(scope="module")
def model(cells, run, tmp_path_factory):
    """Folder of a model of two of the lanes."""
    folder = tmp_path_factory.mktemp("inferred")
    cells[cells.obs["lane"] != "l3"].copy().write_h5ad(folder / "cells.h5ad")
    words = ("--n-metacells", 6, "--max-epochs", 3, "--labels-key", "cell_type")
    words += ("--batch-key", "lane", "--accelerator", "cpu")
    outcome = run("infer", folder / "cells.h5ad", *words, "--out", folder / "out")
    assert outcome.status == 0, outcome.err
    return folder / "out" / "model"


@pytest.fixture(scope="module")
def query(cells, tmp_path_factory):
    """Cells of the third lane without labels and without a tenth of the genes."""
    path = tmp_path_factory.mktemp("query") / "query.h5ad"
    third = cells[cells.obs["lane"] == "l3", 50:].copy()
    del third.obs["cell_type"]
    third.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def mapped(run, query, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("mapped") / "out"
    outcome = run("map", query, "--model", model, "--out", out, "--accelerator", "cpu")
    assert outcome.status == 0, outcome.err
    return outcome, out


def test_all_results_are_written_and_nothing_else(mapped):
    outcome, out = mapped
    files = {"metacells.h5ad", "assignments.csv", "labels.csv", "model", "report.html"}
    assert {file.name for file in out.iterdir()} == files
    assert all(name in outcome.out for name in files)
    assert "50 rna features of the model are missing" in outcome.err
    assert "Fitting 1 new in 'lane': l3." in outcome.err


def test_results_are_those_of_the_model(mapped, query, model):
    _, out = mapped
    cells = anndata.read_h5ad(query)
    loaded = scmetaq.MetaQModel.load(out / "model", cells)
    assignments = pd.read_csv(out / "assignments.csv", index_col="barcode")
    assert list(assignments.index) == list(cells.obs_names)
    expected = loaded.get_assignments()
    pd.testing.assert_frame_equal(expected, assignments, check_names=False, check_dtype=False)
    labels = pd.read_csv(out / "labels.csv", index_col="barcode")
    assert list(labels) == ["cell_type", "cell_type_uncertainty", "cell_type_unknown"]
    assert labels["cell_type_uncertainty"].between(0, 1).all()
    metacells = anndata.read_h5ad(out / "metacells.h5ad")
    assert metacells.layers["counts"].sum() == cells.X.sum()
    assert set(metacells.obs_names) == set(assignments["metacell"])
    reference = scmetaq.MetaQModel.load(model, False)
    pd.testing.assert_frame_equal(loaded.get_codebook(), reference.get_codebook())


def test_the_report_is_of_the_new_cells(mapped, query):
    _, out = mapped
    page = (out / "report.html").read_text()
    n_cells = anndata.read_h5ad(query).n_obs
    n_used = pd.read_csv(out / "assignments.csv")["metacell"].nunique()
    assert f"{n_used} metacells of {n_cells} cells" in page
    for text in ("cell_type_predicted", "New in lane", "l3", "Features filled in, rna", "50"):
        assert text in page


def test_a_few_cells_get_no_report(run, query, model, tmp_path):
    anndata.read_h5ad(query)[:3].copy().write_h5ad(tmp_path / "three.h5ad")
    words = ("--model", model, "--out", tmp_path / "out", "--accelerator", "cpu")
    outcome = run("map", tmp_path / "three.h5ad", *words)
    assert outcome.status == 0, outcome.err
    assert "report.html" not in outcome.out
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_report_of_cells_of_unknown_type(query, model, tmp_path):
    cells = anndata.read_h5ad(query)
    mapped = scmetaq.MetaQModel.load_query_data(cells, model, accelerator="cpu")
    mapped.train(accelerator="cpu")
    labels = mapped.predict_labels()
    labels["cell_type_unknown"] = True
    _map._write_report(tmp_path / "report.html", mapped, mapped.get_assignments(), labels, {})
    page = (tmp_path / "report.html").read_text()
    assert f"of {cells.n_obs} cells" in page
    assert "cell_type_predicted" not in page


def test_labels_need_labels(query, model, monkeypatch):
    loaded = scmetaq.MetaQModel.load(model, False)
    monkeypatch.setitem(loaded.registry["setup_args"], "labels_key", None)
    assert _map._labels(loaded, print) is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), ("Missing option --model",)),
        (("--model", "none"), ("There is no model in none", "model.pt")),
    ],
)
def test_a_model_is_needed(run, query, tmp_path, words, told):
    assert run("map", query, "--out", tmp_path / "out", *words).refuses(*told)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_is_refused(run, query, model, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.pt").write_bytes((model / "model.pt").read_bytes()[:1000])
    outcome = run("map", query, "--model", broken, "--out", tmp_path / "out")
    assert outcome.refuses("model.pt", "cut short")


def test_a_query_without_the_condition_is_refused(run, query, model, tmp_path):
    cells = anndata.read_h5ad(query)
    del cells.obs["lane"]
    cells.write_h5ad(tmp_path / "query.h5ad")
    outcome = run("map", tmp_path / "query.h5ad", "--model", model, "--out", tmp_path / "out")
    assert outcome.refuses("No column 'lane'", "query.obs['lane'] = 'new'")
    assert not (tmp_path / "out").exists()


def test_too_few_features_are_refused(run, query, model, tmp_path):
    anndata.read_h5ad(query)[:, :30].copy().write_h5ad(tmp_path / "query.h5ad")
    outcome = run("map", tmp_path / "query.h5ad", "--model", model, "--out", tmp_path / "out")
    assert outcome.refuses("at least 20%", "found 30 in the query")


def test_results_are_not_written_over_the_model(run, query, model, tmp_path):
    words = ("--model", model, "--out", model.parent, "--overwrite")
    assert run("map", query, *words).refuses(str(model.parent))
    assert (model / "model.pt").exists()


def test_cells_of_one_metacell_are_mapped_and_judged(run, cells, model, tmp_path):
    same = cells[np.zeros(60, int)].copy()
    same.obs_names = [f"cell{i}" for i in range(60)]
    same.write_h5ad(tmp_path / "same.h5ad")
    words = ("--model", model, "--out", tmp_path / "out", "--accelerator", "cpu")
    outcome = run("map", tmp_path / "same.h5ad", *words)
    assert outcome.status == 0, outcome.err
    assert anndata.read_h5ad(tmp_path / "out" / "metacells.h5ad").n_obs == 1
    assert "to the nearest cell of another" not in (tmp_path / "out" / "report.html").read_text()


def test_counts_are_judged_wherever_each_modality_has_them(paired):
    mdata = paired.copy()
    for name, layer in {"rna": "counts", "adt": "raw"}.items():
        mdata[name].layers[layer] = np.asarray(mdata[name].to_df()) + 1
    layers = {"rna_layer": "counts", "adt_layer": "raw", "atac_layer": None}
    names = {"rna_layer": "rna", "adt_layer": "adt", "atac_layer": "atac"}
    measured = _map._measured(mdata, {**layers, "modalities": names})
    for name, added in {"rna": 1, "adt": 1, "atac": 0}.items():
        difference = measured[name].to_df() - paired[name].to_df()
        assert (difference == added).all(axis=None)
    assert list(measured.obs_names) == list(mdata.obs_names)
