"""What ``infer`` and ``evaluate`` write, say and refuse."""

import contextlib
import io
import os
from pathlib import Path

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

import scmetaq
from scmetaq.cli import _commands

CPU = ("--accelerator", "cpu")


def read(path):
    return (mudata.read_h5mu if path.suffix == ".h5mu" else anndata.read_h5ad)(path)


def test_infer_writes_all_results_that_agree_and_says_little(inferred):
    files = {inferred.metacells, "assignments.csv", "model", "run.json", "report.html"}
    assert set(os.listdir(inferred.out)) == files
    assert os.listdir(inferred.out.parent) == ["run"]
    said, progress = inferred.outcome.out, inferred.outcome.err
    assert all(name in said for name in (str(inferred.out), *files))
    assert ("h5mu" in said) != ("h5ad" in said)
    first = [line.split()[0] for line in progress.splitlines()]
    assert first == ["Read", "Training", "Assigning", "Judging"]  # a line per stage
    assert not any(word in progress for word in ("GPU", "Tip", "Trainer", "Warning", "Epoch"))
    cells, metacells = inferred.cells, read(inferred.out / inferred.metacells)
    assignments = pd.read_csv(inferred.table, index_col="barcode")
    assert list(assignments.index) == list(cells.obs_names)
    assert list(assignments.columns) == ["metacell", "margin"]
    assert (assignments["margin"] >= 0).all()
    sizes = assignments["metacell"].value_counts()
    assert metacells.n_obs == inferred.n_metacells
    assert (metacells.obs["n_cells"] == sizes[metacells.obs_names]).all()
    for name, part in getattr(cells, "mod", {"": cells}).items():
        of_part = metacells[name] if name else metacells
        assert of_part.n_obs == inferred.n_metacells
        assert of_part.layers["counts"].sum() == part.X.sum()
    model = scmetaq.MetaQModel.load(inferred.out / "model", read(inferred.path))
    expected = model.get_assignments()
    pd.testing.assert_frame_equal(expected, assignments, check_names=False, check_dtype=False)


def test_printed_quality_is_that_of_the_metacells(inferred):
    assignments = pd.read_csv(inferred.table, index_col="barcode")["metacell"]
    is_mudata = hasattr(inferred.cells, "mod")
    words = {} if is_mudata else {"conditions": "lane"}
    frame = scmetaq.metrics.evaluate(inferred.cells, assignments, inferred.labels, **words)
    if not is_mudata:
        frame["modality"] = ""
    means = frame.fillna({"modality": ""}).groupby(["metric", "modality"])["value"].mean()
    of_joint = ("purity", "accuracy", "balanced_accuracy", *(() if is_mudata else ("mixing",)))
    parts = inferred.cells.mod if is_mudata else ("",)
    of_part = [(metric, name) for metric in ("compactness", "separation") for name in parts]
    for metric, name in [*((metric, "") for metric in of_joint), *of_part]:
        shown = metric.replace("_", " ") + (f", {name} " if name else " ")
        (line,) = [line for line in inferred.outcome.out.splitlines() if line.startswith(shown)]
        assert f"{means[metric, name]:.3f}" in line


def test_report_describes_the_run(inferred_adata, inferred_mdata):
    page = (inferred_adata.out / "report.html").read_text()
    command = f"scmetaq infer {inferred_adata.path} --n-metacells 6"
    for words in ("6 metacells of 160 cells", command, "cell_type", "Training"):
        assert words in page
    assert "Metacells and <em>lane</em>" in page
    page = (inferred_mdata.out / "report.html").read_text()
    facts = page.split('<section id="run">')[1]
    for words in ("60 features", "8 features", "80 features", "of the distances between cells"):
        assert words in facts
    for words in ("15 metacells of 150 cells", "Each modality", "compactness, atac"):
        assert words in page


def test_code_in_the_report_runs(printed_code, inferred, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    found: dict = {}
    with contextlib.redirect_stderr(io.StringIO()):
        exec(printed_code(inferred.out), found)
    assert found["cells"].obs["metacell"].notna().all()
    assert found["metacells"].n_obs == inferred.n_metacells
    if "joint" in found:
        assert list(found["joint"].obs_names) == list(found["metacells"].obs_names)
        assert found["joint"].obsm["X_joint"].shape == (15, 14 + 7 + 14)


def test_demo_needs_no_options(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    jobs = []
    monkeypatch.setattr(_commands.Infer, "_set_up", lambda job: jobs.append(job))
    assert run("infer", "demo").status == 1
    (job,) = jobs
    assert job.out == Path("scmetaq-demo")
    assert job.labels_key == ["cell_type"]
    assert job.command == "scmetaq infer demo"
    assert job.cells.data.n_obs == scmetaq.data.demo().n_obs


@pytest.mark.parametrize("kind", ["adata", "mdata"])
def test_a_zarr_store_is_read(run, cells, mcells, tmp_path, untrained, kind):
    store = tmp_path / "cells.zarr"
    (cells if kind == "adata" else mcells).copy().write_zarr(store)
    outcome = run("infer", store, "--out", tmp_path / "out")
    size = {"adata": f"160 cells x {cells.n_vars} features", "mdata": "150 cells (60 rna features"}
    assert f"Read {size[kind]}" in outcome.err
    assert "--n-metacells is left out: 3, one per 50 cells" in outcome.err
    assert outcome.status == 1


REFUSED = {
    "--layer lognorm": ("log-normalised", "--layer"),
    "--layer missing": ("found no 'missing'", "'lognorm'", "--layer"),
    "--labels-key missing": ("No column 'missing'", "'cell_type'", "--labels-key"),
    "--batch-key missing": ("No column 'missing'", "'cell_type'", "--batch-key"),
    "--covariate-key run run2": ("No column 'run2'", "'run'", "--covariate-key"),
    "--labels-key nothing": ("All values", "'nothing'"),
    "--labels-key decimal": ("'decimal'", "--labels-key", "decimal numbers"),
    "--n-metacells 160": ("fewer than the 160 cells", "--n-metacells", "50 cells"),
    "--n-metacells 1": ("--n-metacells", "2"),
    "--n-metacells few": ("--n-metacells", "integer"),
    "--modality protein": ("--modality", "'adt'"),
    "--max-epochs 0": ("--max-epochs", "1"),
    "--features missing": ("No column 'missing' in", "Name another column with --features"),
    "--exclude-features missing": ("No column 'missing' in", "with --exclude-features"),
    "--use-rep X_pca": ("No embedding 'X_pca'", "'X_umap'", "--use-rep"),
    "--label-weight 1": ("labels for label_weight", "with --labels-key"),
    "--cells-per-metacell 0": ("cells_per_metacell to be a number above zero",),
    "--cells-per-metacell 1000": ("between 2 and 159 metacells", "has about 53"),
    "--n-metacells 5 --counts-per-metacell 9000": ("Expected one of n_metacells", "found several"),
    "--metacells 5": ("No such option", "--metacells"),
}
REFUSED_OF_MUDATA = {
    "--modality rna": ("--modality", "leave it out"),
    "--layer missing": ("found no 'missing'", "'rna': ['raw'], 'adt': []"),
    "--labels-key missing": ("No column 'missing'", "'state', 'rna:state'"),
    "--labels-key donor": ("several modalities", "adt:donor or atac:donor"),
    "--labels-key state kind": ("in one obs", "'kind' in 'rna'"),
    "--batch-key missing": ("No column 'missing'", "'state', 'rna:state'"),
    "--covariate-key state kind": ("all --covariate-key in",),
    "--n-metacells 150": ("fewer than the 150 cells", "--n-metacells"),
}


CASES = [("path", *case) for case in REFUSED.items()]
CASES += [("mpath", *case) for case in REFUSED_OF_MUDATA.items()]


@pytest.mark.parametrize(("file", "words", "told"), CASES)
def test_bad_options_are_refused(request, run, tmp_path, untrained, file, words, told):
    path = request.getfixturevalue(file)
    outcome = run("infer", path, "--out", tmp_path / "out", *words.split())
    assert outcome.refuses(*told), outcome
    assert "KeyError" not in outcome.err
    assert os.listdir(tmp_path) == []


FOUND = {
    "--layer raw": ("'rna_layer': 'raw'", "'adt_layer': None"),
    "--labels-key state": ("'labels_key': ['state']",),
    "--labels-key kind": ("'labels_key': ['kind']", "'labels_key': 'rna'"),
    "--labels-key rna:kind": ("'labels_key': ['kind']", "'labels_key': 'rna'"),
    "--labels-key atac:donor": ("'labels_key': ['donor']", "'labels_key': 'atac'"),
    "--batch-key kind": ("'batch_key': 'kind'", "'batch_key': 'rna'"),
    "--batch-key rna:kind": ("'batch_key': 'kind'", "'batch_key': 'rna'"),
    "--covariate-key adt:donor2 adt:donor3": ("_keys': ['donor2', 'donor3']", "_keys': 'adt'"),
}


@pytest.mark.parametrize("words", FOUND)
def test_options_find_the_layer_or_column(run, mpath, tmp_path, untrained, words):
    outcome = run("infer", mpath, "--out", tmp_path / "out", *words.split())
    assert outcome.status == 1
    assert all(word in outcome.err for word in FOUND[words]), outcome


def test_modalities_of_no_use_are_refused_or_left_out_aloud(run, mcells, tmp_path, untrained):
    rna, logged = mcells["rna"], mcells["adt"].copy()
    logged.X = np.log1p(logged.X.toarray())
    bad = {
        "one": ({"first": rna.copy()}, ("found 'first'", "Name the modalities")),
        "two": ({"rna": rna.copy(), "gex": rna.copy()}, ("rna, gex", "Name the modalities")),
        "logged": ({"rna": rna.copy(), "adt": logged}, ("mdata['adt']", "there are no layers")),
    }
    for name, (parts, told) in bad.items():
        MuData(parts).write_h5mu(tmp_path / f"{name}.h5mu")
        outcome = run("infer", tmp_path / f"{name}.h5mu", "--out", tmp_path / "out")
        assert outcome.refuses(*told), outcome
        assert "modalities={" not in outcome.err
    tags = AnnData(np.ones((150, 2), np.float32), pd.DataFrame(index=mcells.obs_names))
    MuData({"rna": mcells["rna"].copy(), "hto": tags}).write_h5mu(tmp_path / "cells.h5mu")
    outcome = run("infer", tmp_path / "cells.h5mu", "--out", tmp_path / "out")
    assert "Note: Modalities of no known kind are left out: hto." in outcome.err
    assert "Read 150 cells (60 rna features)" in outcome.err


def test_missing_device_is_refused_before_training(run, path, tmp_path, untrained, monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    outcome = run("infer", path, "--out", tmp_path / "out", "--accelerator", "mps")
    assert outcome.refuses("no mps", "--accelerator"), outcome


def test_several_labels_and_covariates(run, path, tmp_path):
    words = ("--labels-key", "cell_type", "level", "--max-epochs", 1, "--n-metacells", 4, *CPU)
    words += ("--batch-key", "run", "--covariate-key", "lane", "--out", tmp_path / "out")
    outcome = run("infer", path, *words)
    assert outcome.status == 0, outcome.err
    metacells = anndata.read_h5ad(tmp_path / "out" / "metacells.h5ad")
    assert {"cell_type_fraction", "level_fraction"} <= set(metacells.obs)
    assert "of one category only" not in (tmp_path / "out" / "report.html").read_text()


def test_size_features_and_weight_of_labels_are_those_asked_for(run, cells, tmp_path):
    path, genes = tmp_path / "cells.h5ad", np.zeros(cells.n_vars, bool)
    genes[:400] = True
    cells.copy().write_h5ad(path)
    with_genes = anndata.read_h5ad(path)
    with_genes.var["own"], with_genes.var["cycle"] = genes, np.roll(genes, 200)
    with_genes.write_h5ad(path)
    words = ("--cells-per-metacell", 20, "--min-size", 12, "--max-size", 30, "--max-epochs", 1)
    words += ("--labels-key", "cell_type", "--label-weight", 4, *CPU)
    words += ("--features", "own", "--exclude-features", "cycle")
    outcome = run("infer", path, "--out", tmp_path / "out", *words)
    assert outcome.status == 0, outcome.err
    assert "left out" not in outcome.err
    assert "Weight of labels" in (tmp_path / "out" / "report.html").read_text()
    sizes = pd.read_csv(tmp_path / "out" / "assignments.csv")["metacell"].value_counts()
    assert len(sizes) == 8
    assert sizes.between(12, 30).all()
    model = scmetaq.MetaQModel.load(tmp_path / "out" / "model", with_genes)
    assert model.init_params_["non_kwargs"]["label_weight"] == 4
    read = model.module.parts["rna"].feature_scaling.features.tolist()
    assert set(read) <= set(range(200))


def test_an_embedding_is_grouped_by_and_counts_give_the_number(run, path, cells, tmp_path):
    words = ("--use-rep", "X_umap", "--counts-per-metacell", cells.X.sum() / 7, *CPU)
    outcome = run("infer", path, "--out", tmp_path / "out", "--max-epochs", 1, *words)
    assert outcome.status == 0, outcome.err
    found = pd.read_csv(tmp_path / "out" / "assignments.csv")["metacell"]
    assert found.nunique() == 7
    of_noise = scmetaq.metrics.euclidean_compactness(cells.obsm["X_umap"], found)
    assert of_noise.mean() < 0.5  # of cells drawn from a normal distribution of variance 1


def test_mosaic_cells_are_inferred_and_judged(run, mosaic, tmp_path):
    mosaic.obsm["X_umap"] = np.random.default_rng(0).normal(size=(150, 2))
    path, out = tmp_path / "mosaic.h5mu", tmp_path / "out"
    mosaic.write_h5mu(path)
    words = ("--n-metacells", 6, "--max-epochs", 3, *CPU)
    outcome = run("infer", path, "--out", out, *words)
    assert outcome.status == 0, outcome.err
    assert "8 adt features in 100 of them" in outcome.err
    page = (out / "report.html").read_text()
    for told in ("100 cells × 8 features", "mu.pp.intersect_obs(metacells)", "UMAP stored in the"):
        assert told in page


def test_evaluate_gives_the_numbers_of_the_metrics(run, inferred, tmp_path):
    is_mudata = hasattr(inferred.cells, "mod")
    key, batch = ("rna:kind", "state") if is_mudata else ("cell_type", "lane")
    words = ("--labels-key", key, "--batch-key", batch, "--out", tmp_path / "judged")
    outcome = run("evaluate", inferred.path, inferred.table, *words)
    assert outcome.status == 0, outcome.err
    written = pd.read_csv(tmp_path / "judged" / "metrics.csv")
    assignment = pd.read_csv(inferred.table, index_col="barcode")["metacell"]
    labels = inferred.cells["rna"].obs["kind"] if is_mudata else key
    frame = scmetaq.metrics.evaluate(inferred.cells, assignment, labels, conditions=batch)
    expected = ["metric", *(["modality"] if is_mudata else []), "metacell", "value", "better"]
    assert list(written.columns) == expected
    np.testing.assert_allclose(written["value"], frame["value"])
    page = (tmp_path / "judged" / "report.html").read_text()
    assert f"Metacells and <em>{batch}</em>" in page
    assert ("Each modality" in page) == is_mudata
    mixing = frame.set_index("metric")["value"]["mixing"]
    assert f"Mixing {mixing:.3f}" in page
    assert f"{inferred.n_metacells} metacells of {inferred.cells.n_obs} cells" in page


@pytest.mark.parametrize("words", list(REFUSED)[1:4] + ["--labels-key decimal"])
def test_evaluate_refuses_names_before_it_works(run, inferred_adata, tmp_path, words):
    files = (inferred_adata.path, inferred_adata.table, "--out", tmp_path / "out")
    refused = run("evaluate", *files, *words.split())
    assert refused.refuses(*REFUSED[words]), refused
    assert "Judging" not in refused.err
    assert os.listdir(tmp_path) == []


def test_notes_are_in_words_of_the_command(run, inferred_adata, cells, tmp_path):
    logged = cells.copy()
    logged.X = logged.X.log1p()
    logged.write_h5ad(tmp_path / "logged.h5ad")
    words = (tmp_path / "logged.h5ad", inferred_adata.table, "--out", tmp_path / "judged")
    outcome = run("evaluate", *words)
    assert outcome.status == 0, outcome.err
    assert "found fractions" in outcome.err
    assert "layers there, 'lognorm', hold none either" in outcome.err
    assert "layer=" not in outcome.err
