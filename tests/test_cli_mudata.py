"""The command on cells with several modalities: what differs from one modality."""

import contextlib
import io
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

import scmetaq
from scmetaq.cli import _next_steps

FILES = {"metacells.h5mu", "assignments.csv", "model", "report.html"}
N_METACELLS = 15
KINDS = ("rna", "adt", "atac")


@pytest.fixture(scope="module")
def cells(paired):
    """The toy cells with an embedding of their own, and labels that are in one modality only."""
    mdata = paired.copy()
    mdata["rna"].obs["kind"] = pd.Categorical(np.array(["x", "y"])[np.arange(150) % 2])
    for name in ("adt", "atac"):
        mdata[name].obs["donor"] = "d1"
    for name in ("donor2", "donor3"):
        mdata["adt"].obs[name] = pd.Categorical(np.array(["x", "y"])[np.arange(150) // 75])
    mdata["rna"].layers["raw"] = mdata["rna"].X.copy()
    mdata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(150, 2))
    return mdata


@pytest.fixture(scope="module")
def path(cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5mu"
    cells.write_h5mu(path)
    return path


@pytest.fixture(scope="module")
def inferred(run, path, tmp_path_factory):
    """A finished run: what was said, and the directory."""
    out = tmp_path_factory.mktemp("inferred") / "run"
    words = ("--n-metacells", N_METACELLS, "--max-epochs", 3, "--labels-key", "state")
    outcome = run("infer", path, *words, "--out", out, "--accelerator", "cpu")
    assert outcome.status == 0, outcome.err
    return outcome, out


@pytest.fixture
def untrained(monkeypatch):
    """No run gets as far as training."""

    def train(self, *args, **kwargs):
        raise RuntimeError(str(self.registry["setup_args"]))

    monkeypatch.setattr(scmetaq.MetaQModel, "train", train)


def test_infer_writes_all_results_and_nothing_else(inferred):
    outcome, out = inferred
    assert {file.name for file in out.iterdir()} == FILES
    assert [file.name for file in out.parent.iterdir()] == ["run"]
    assert all(name in outcome.out for name in FILES)
    assert ".h5ad" not in outcome.out
    assert len(outcome.err.splitlines()) == 3
    assert "Read 150 cells (60 rna features, 8 adt features, 80 atac features)" in outcome.err


def test_results_agree(inferred, cells):
    _, out = inferred
    assignments = pd.read_csv(out / "assignments.csv", index_col="barcode")
    metacells = mudata.read_h5mu(out / "metacells.h5mu")
    assert list(assignments.index) == list(cells.obs_names)
    assert list(assignments.columns) == ["metacell", "margin"]
    sizes = assignments["metacell"].value_counts()
    assert (metacells.obs["n_cells"] == sizes[metacells.obs_names]).all()
    for kind in KINDS:
        assert metacells[kind].n_obs == N_METACELLS
        assert metacells[kind].layers["counts"].sum() == cells[kind].X.sum()


def test_model_gives_the_same_assignments(inferred, path):
    _, out = inferred
    model = scmetaq.MetaQModel.load(out / "model", mudata.read_h5mu(path))
    again, written = model.get_assignments(), pd.read_csv(out / "assignments.csv", index_col=0)
    pd.testing.assert_frame_equal(again, written, check_names=False, check_dtype=False)


def test_printed_quality_is_that_of_each_modality(inferred, cells):
    outcome, out = inferred
    assignments = pd.read_csv(out / "assignments.csv", index_col="barcode")["metacell"]
    frame = scmetaq.metrics.evaluate(cells, assignments, "state")
    means = frame.fillna({"modality": ""}).groupby(["metric", "modality"])["value"].mean()
    for metric, kind in (("compactness", "rna"), ("separation", "atac"), ("purity", "")):
        name = f"{metric}, {kind}" if kind else metric
        (line,) = [line for line in outcome.out.splitlines() if line.startswith(f"{name} ")]
        assert f"{means[metric, kind]:.3f}" in line


def test_report_tells_of_each_modality(inferred, path):
    page = (inferred[1] / "report.html").read_text()
    facts = page.split('<section id="run">')[1]
    for words in ("60 features", "8 features", "80 features", "of the distances between cells"):
        assert words in facts
    assert f"{N_METACELLS} metacells of 150 cells" in page
    assert "Each modality" in page
    assert "compactness, atac" in page
    assert f"scmetaq infer {path}" in page


def test_code_in_the_report_runs(printed_code, inferred, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict = {}
    with contextlib.redirect_stderr(io.StringIO()):
        exec(printed_code(inferred[1]), names)
    assert names["cells"].obs["metacell"].notna().all()
    assert list(names["joint"].obs_names) == list(names["metacells"].obs_names)
    assert names["joint"].obsm["X_joint"].shape == (N_METACELLS, 14 + 7 + 14)


def test_code_is_for_the_cells_at_hand():
    paths = {"metacells": "a.h5mu", "assignments": "a.csv", "model": "model"}
    names, read = {"rna": "gex"}, "mudata.read_h5mu('cells.h5mu')"
    one = _next_steps.of_modalities(
        paths, read, "kind", color_of="gex", names=names, is_mosaic=False
    )
    assert 'joint.obs["kind"] = metacells["gex"].obs["kind"]' in one
    assert "mu." not in one.replace("mudata.", "")
    names = {"rna": "gex", "atac": "peaks"}
    mosaic = _next_steps.of_modalities(
        paths, read, "n_cells", color_of=None, names=names, is_mosaic=True
    )
    assert "mu.pp.intersect_obs(metacells)" in mosaic
    assert 'atac = metacells["peaks"]' in mosaic
    for code in (one, mosaic):
        compile(code, "next", "exec")


def test_zarr_store_is_read(run, cells, tmp_path, untrained):
    cells.copy().write_zarr(tmp_path / "cells.zarr")
    outcome = run("infer", tmp_path / "cells.zarr", "--out", tmp_path / "out")
    assert "Read 150 cells (60 rna features" in outcome.err
    assert outcome.status == 1
    outcome = run("infer", tmp_path / "cells.zarr", "--out", tmp_path / "out", "--modality", "rna")
    assert outcome.refuses("--modality")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--layer", "raw"), ("'rna_layer': 'raw'", "'adt_layer': None")),
        (("--labels-key", "state"), ("'labels_key': ['state']",)),
        (("--labels-key", "kind"), ("'labels_key': ['kind']", "'labels_key': 'rna'")),
        (("--labels-key", "rna:kind"), ("'labels_key': ['kind']", "'labels_key': 'rna'")),
        (("--labels-key", "atac:donor"), ("'labels_key': ['donor']", "'labels_key': 'atac'")),
        (("--batch-key", "kind"), ("'batch_key': 'kind'", "'batch_key': 'rna'")),
        (("--batch-key", "rna:kind"), ("'batch_key': 'kind'", "'batch_key': 'rna'")),
        (
            ("--covariate-key", "adt:donor2", "--covariate-key", "adt:donor3"),
            (
                "'categorical_covariate_keys': ['donor2', 'donor3']",
                "'categorical_covariate_keys': 'adt'",
            ),
        ),
    ],
)
def test_options_find_what_they_are_about(run, path, tmp_path, untrained, words, told):
    outcome = run("infer", path, "--out", tmp_path / "out", *words)
    assert outcome.status == 1
    assert all(word in outcome.err for word in told), outcome


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--modality", "rna"), ("--modality", "leave it out")),
        (("--layer", "missing"), ("No layer 'missing'", "rna: 'raw'; adt: none")),
        (("--labels-key", "missing"), ("No column 'missing'", "'state', 'rna:state'")),
        (("--labels-key", "donor"), ("several modalities", "adt:donor or atac:donor")),
        (("--labels-key", "state", "--labels-key", "kind"), ("in one obs", "'kind' in 'rna'")),
        (("--batch-key", "missing"), ("No column 'missing'", "'state', 'rna:state'")),
        (("--covariate-key", "state", "--covariate-key", "kind"), ("all --covariate-key in",)),
        (("--n-metacells", "150"), ("fewer than the 150 cells", "--n-metacells 3")),
    ],
)
def test_bad_options_are_refused(run, path, tmp_path, untrained, words, told):
    outcome = run("infer", path, "--out", tmp_path / "out", *words)
    assert outcome.refuses(*told), outcome
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_file_is_refused(run, path, tmp_path, share):
    broken = tmp_path / "broken.h5mu"
    whole = path.read_bytes()
    broken.write_bytes(whole[: int(share * len(whole))])
    outcome = run("infer", broken, "--out", tmp_path / "out")
    assert outcome.refuses("broken.h5mu cannot be read as MuData", "truncated"), outcome
    assert not (tmp_path / "out").exists()


def test_an_anndata_under_another_name_is_refused(run, cells, tmp_path):
    cells["rna"].copy().write_h5ad(tmp_path / "rna.h5mu")
    outcome = run("infer", tmp_path / "rna.h5mu", "--out", tmp_path / "out")
    assert outcome.refuses("rna.h5mu cannot be read as MuData", ".h5ad"), outcome


def test_modalities_that_cannot_be_used_are_refused(run, cells, tmp_path, untrained):
    logged = cells["adt"].copy()
    logged.X = np.log1p(logged.X.toarray())
    bad = {
        "one": ({"first": cells["rna"].copy()}, ("found 'first'", "Name the modalities")),
        "two": (
            {"rna": cells["rna"].copy(), "gex": cells["rna"].copy()},
            ("found rna, gex", "Name the modalities"),
        ),
        "logged": ({"rna": cells["rna"].copy(), "adt": logged}, ("mdata['adt']", "--layer")),
    }
    for name, (parts, told) in bad.items():
        MuData(parts).write_h5mu(tmp_path / f"{name}.h5mu")
        outcome = run("infer", tmp_path / f"{name}.h5mu", "--out", tmp_path / "out")
        assert outcome.refuses(*told), outcome
        assert "modalities={" not in outcome.err


def test_other_modalities_are_left_out_aloud(run, cells, tmp_path, untrained):
    tags = AnnData(np.ones((150, 2), np.float32), pd.DataFrame(index=cells.obs_names))
    MuData({"rna": cells["rna"].copy(), "hto": tags}).write_h5mu(tmp_path / "cells.h5mu")
    outcome = run("infer", tmp_path / "cells.h5mu", "--out", tmp_path / "out")
    assert "Note: Modalities of no known kind are left out: hto." in outcome.err
    assert "Read 150 cells (60 rna features)" in outcome.err


def test_evaluate_judges_each_modality(run, inferred, path, cells, tmp_path):
    table, out = inferred[1] / "assignments.csv", tmp_path / "judged"
    words = ("--labels-key", "rna:kind", "--batch-key", "state")
    outcome = run("evaluate", path, table, *words, "--out", out)
    assert outcome.status == 0, outcome.err
    written = pd.read_csv(out / "metrics.csv")
    assignment = pd.read_csv(table, index_col="barcode")["metacell"]
    kind = cells["rna"].obs["kind"]
    frame = scmetaq.metrics.evaluate(cells, assignment, kind, conditions="state")
    assert list(written.columns) == ["metric", "modality", "metacell", "value", "better"]
    np.testing.assert_allclose(written["value"], frame["value"])
    page = (out / "report.html").read_text()
    assert "Each modality" in page
    assert "Metacells and <em>state</em>" in page


def test_mosaic_cells_are_inferred_and_judged(run, mosaic, tmp_path):
    mosaic.obsm["X_umap"] = np.random.default_rng(0).normal(size=(150, 2))
    path, out = tmp_path / "mosaic.h5mu", tmp_path / "out"
    mosaic.write_h5mu(path)
    words = ("--n-metacells", 6, "--max-epochs", 3, "--accelerator", "cpu")
    outcome = run("infer", path, "--out", out, *words)
    assert outcome.status == 0, outcome.err
    assert "8 adt features in 100 of them" in outcome.err
    page = Path(out / "report.html").read_text()
    assert "100 cells × 8 features" in page
    assert "mu.pp.intersect_obs(metacells)" in page
    assert "the UMAP stored in the input" in page
    refused = run("evaluate", path, out / "assignments.csv", "--out", out, "--layer", "raw")
    assert refused.refuses("exists"), refused
    refused = run(
        "evaluate", path, out / "assignments.csv", "--out", tmp_path / "j", "--layer", "raw"
    )
    assert refused.refuses("No layer 'raw'", "--layer"), refused
    assert "Judging" not in refused.err


def test_cells_that_lack_a_modality_are_mapped_and_judged(run, cells, inferred, tmp_path):
    MuData({"rna": cells["rna"][:60].copy()}).write_h5mu(tmp_path / "query.h5mu")
    words = ("--model", inferred[1] / "model", "--out", tmp_path / "out", "--accelerator", "cpu")
    outcome = run("map", tmp_path / "query.h5mu", *words)
    assert outcome.status == 0, outcome.err
    assert all(f"No cell has {kind}: " in outcome.err for kind in ("adt", "atac"))
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES | {"labels.csv"}
    assert list(mudata.read_h5mu(tmp_path / "out" / "metacells.h5mu").mod) == ["rna"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "compactness, rna" in page
    assert "compactness, adt" not in page
    assert "Modalities that no cell has" in page
