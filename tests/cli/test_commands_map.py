"""What ``map`` writes, says and refuses."""

import os

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

import scmetaq

CPU = ("--accelerator", "cpu")
FILES = {"metacells.h5ad", "assignments.csv", "labels.csv", "model", "report.html"}


@pytest.fixture(scope="module")
def lanes(blood):
    """200 real cells of three lanes."""
    adata = blood[:200].copy()
    adata.obs["lane"] = np.array(["l1", "l2", "l3"])[np.arange(200) % 3]
    return adata


@pytest.fixture(scope="module")
def model(lanes, run, tmp_path_factory):
    """Folder of a model of two of the lanes."""
    folder = tmp_path_factory.mktemp("inferred")
    lanes[lanes.obs["lane"] != "l3"].copy().write_h5ad(folder / "cells.h5ad")
    words = ("--n-metacells", 6, "--max-epochs", 3, "--labels-key", "cell_type")
    words += ("--batch-key", "lane", *CPU)
    outcome = run("infer", folder / "cells.h5ad", *words, "--out", folder / "out")
    assert outcome.status == 0, outcome.err
    return folder / "out" / "model"


@pytest.fixture(scope="module")
def query(lanes, tmp_path_factory):
    """Cells of the third lane without labels and without a tenth of the genes."""
    path = tmp_path_factory.mktemp("query") / "query.h5ad"
    third = lanes[lanes.obs["lane"] == "l3", 50:].copy()
    del third.obs["cell_type"]
    third.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def mapped(run, query, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("mapped") / "out"
    outcome = run("map", query, "--model", model, "--out", out, *CPU)
    assert outcome.status == 0, outcome.err
    return outcome, out


def test_map_writes_all_results_which_are_those_of_the_model(mapped, query, model):
    outcome, out = mapped
    assert set(os.listdir(out)) == FILES
    assert all(name in outcome.out for name in FILES)
    assert "50 rna features of the model are missing" in outcome.err
    assert "Fitting 1 new in 'lane': l3." in outcome.err
    cells = anndata.read_h5ad(query)
    loaded = scmetaq.MetaQModel.load(out / "model", cells)
    assignments = pd.read_csv(out / "assignments.csv", index_col="barcode")
    assert list(assignments.index) == list(cells.obs_names)
    expected = loaded.get_assignments()
    pd.testing.assert_frame_equal(expected, assignments, check_names=False, check_dtype=False)
    labels = pd.read_csv(out / "labels.csv", index_col="barcode")
    parts = ("", "_uncertainty", "_distance", "_unknown")
    assert list(labels) == [f"cell_type{part}" for part in parts]
    assert labels["cell_type_uncertainty"].between(0, 1).all()
    metacells = anndata.read_h5ad(out / "metacells.h5ad")
    assert metacells.layers["counts"].sum() == cells.X.sum()
    assert set(metacells.obs_names) == set(assignments["metacell"])
    reference = scmetaq.MetaQModel.load(model, False)
    pd.testing.assert_frame_equal(loaded.get_codebook(), reference.get_codebook())
    page, n_used = (out / "report.html").read_text(), assignments["metacell"].nunique()
    assert f"{n_used} metacells of {cells.n_obs} cells" in page
    for text in ("cell_type_predicted", "New in lane", "l3", "Features filled in, rna", "50"):
        assert text in page


def test_a_few_cells_get_no_report(run, query, model, tmp_path):
    anndata.read_h5ad(query)[:3].copy().write_h5ad(tmp_path / "three.h5ad")
    words = ("--model", model, "--out", tmp_path / "out", *CPU)
    outcome = run("map", tmp_path / "three.h5ad", *words)
    assert outcome.status == 0, outcome.err
    assert "report.html" not in outcome.out
    assert set(os.listdir(tmp_path / "out")) == FILES - {"report.html"}


def test_cells_of_unknown_type_and_of_no_labels_are_reported(
    run, query, model, tmp_path, monkeypatch
):
    predict = scmetaq.MetaQModel.predict_labels

    def unknown(self):
        return predict(self).assign(cell_type_unknown=True)

    def impossible(self):
        raise ValueError("nothing learnt")

    for name, replaced in {"unknown": unknown, "impossible": impossible}.items():
        monkeypatch.setattr(scmetaq.MetaQModel, "predict_labels", replaced)
        outcome = run("map", query, "--model", model, "--out", tmp_path / name, *CPU)
        assert outcome.status == 0, outcome.err
        page = (tmp_path / name / "report.html").read_text()
        assert f"of {anndata.read_h5ad(query).n_obs} cells" in page
        assert "cell_type_predicted" not in page
    assert "Note: nothing learnt" in outcome.err
    assert not (tmp_path / "impossible" / "labels.csv").exists()


def test_map_needs_a_model_that_can_be_read(run, query, model, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.pt").write_bytes((model / "model.pt").read_bytes()[:1000])
    for words, told in (
        ((), ("Missing option --model",)),
        (("--model", "none"), ("There is no model in none", "model.pt")),
        (("--model", broken), ("model.pt", "cut short")),
    ):
        assert run("map", query, "--out", tmp_path / "out", *words).refuses(*told)
        assert os.listdir(tmp_path) == ["broken"]


def test_queries_that_do_not_fit_are_refused_and_models_kept(run, query, model, tmp_path):
    cells = anndata.read_h5ad(query)
    cells[:, :30].copy().write_h5ad(tmp_path / "narrow.h5ad")
    del cells.obs["lane"]
    cells.write_h5ad(tmp_path / "plain.h5ad")
    words = ("--model", model, "--out", tmp_path / "out")
    narrow = run("map", tmp_path / "narrow.h5ad", *words)
    assert narrow.refuses("at least 20%", "found 30 in the query"), narrow
    plain = run("map", tmp_path / "plain.h5ad", *words)
    assert plain.refuses("No column 'lane'", "query.obs['lane'] = 'new'"), plain
    assert not (tmp_path / "out").exists()
    words = ("--model", model, "--out", model.parent, "--overwrite")
    assert run("map", query, *words).refuses(str(model.parent))
    assert (model / "model.pt").exists()


def test_cells_of_one_metacell_are_mapped_and_judged(run, lanes, model, tmp_path):
    same = lanes[np.zeros(60, int)].copy()
    same.obs_names = [f"cell{i}" for i in range(60)]
    same.write_h5ad(tmp_path / "same.h5ad")
    outcome = run("map", tmp_path / "same.h5ad", "--model", model, "--out", tmp_path / "out", *CPU)
    assert outcome.status == 0, outcome.err
    assert anndata.read_h5ad(tmp_path / "out" / "metacells.h5ad").n_obs == 1
    assert "to the nearest cell of another" not in (tmp_path / "out" / "report.html").read_text()


def test_cells_that_lack_a_modality_are_mapped_and_judged(run, mcells, inferred_mdata, tmp_path):
    MuData({"rna": mcells["rna"][:60].copy()}).write_h5mu(tmp_path / "query.h5mu")
    out = tmp_path / "out"
    words = ("--model", inferred_mdata.out / "model", "--out", out, *CPU)
    outcome = run("map", tmp_path / "query.h5mu", *words)
    assert outcome.status == 0, outcome.err
    assert all(f"No cell has {kind}: " in outcome.err for kind in ("adt", "atac"))
    assert set(os.listdir(out)) == FILES - {"metacells.h5ad"} | {"metacells.h5mu"}
    assert list(mudata.read_h5mu(out / "metacells.h5mu").mod) == ["rna"]
    page = (out / "report.html").read_text()
    assert "compactness, rna" in page
    assert "compactness, adt" not in page
    assert "Modalities that no cell has" in page
