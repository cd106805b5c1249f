"""The command: exit status, messages, and what it leaves on disk."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scmetaq
from scmetaq.cli import _errors, _infer, _input
from scmetaq.cli._app import _repeat_options
from scmetaq.cli._assignments import read_assignments
from scmetaq.cli._next_steps import of_cells

SOURCE = Path(scmetaq.__file__).parent
N_METACELLS = 6
FILES = {"metacells.h5ad", "assignments.csv", "model", "report.html"}


@pytest.fixture(scope="module")
def cells(blood):
    """160 real cells with labels, an embedding of their own and a layer that is no counts."""
    adata = blood[:160].copy()
    adata = adata[:, np.asarray((adata.X > 0).sum(0)).ravel() > 0].copy()
    adata.layers["lognorm"] = sp.csr_matrix(np.log1p(adata.X.toarray() / 3))
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(adata.n_obs, 2))
    adata.obs["lane"] = pd.Categorical(np.array(["l1", "l2"])[np.arange(160) % 2])
    adata.obs["nothing"] = pd.Series(pd.NA, index=adata.obs_names, dtype="string")
    return adata


@pytest.fixture(scope="module")
def path(cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    cells.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def inferred(run, path, tmp_path_factory):
    """A finished run: what was said, and the directory in a folder of its own."""
    out = tmp_path_factory.mktemp("inferred") / "deep" / "run"
    words = ("--n-metacells", N_METACELLS, "--max-epochs", 3, "--labels-key", "cell_type")
    words += ("--batch-key", "lane")
    outcome = run("infer", path, *words, "--out", out, "--accelerator", "cpu")
    assert outcome.status == 0, outcome.err
    return outcome, out


@pytest.fixture
def untrained(monkeypatch):
    """No run gets as far as training."""

    def train(self, *args, **kwargs):
        raise RuntimeError("out of [memory]\nsecond line")

    monkeypatch.setattr(scmetaq.MetaQModel, "train", train)


@pytest.fixture
def earlier(tmp_path):
    """Directory of an earlier result."""
    out = tmp_path / "earlier"
    out.mkdir()
    (out / "report.html").write_text("old")
    return out


def test_infer_writes_all_results_and_nothing_else(inferred):
    outcome, out = inferred
    assert {file.name for file in out.iterdir()} == FILES
    assert [file.name for file in out.parent.iterdir()] == ["run"]
    assert str(out) in outcome.out
    assert all(name in outcome.out for name in FILES)


def test_infer_keeps_the_libraries_quiet(inferred):
    outcome, _ = inferred
    assert len(outcome.err.splitlines()) == 3
    assert not any(word in outcome.err for word in ("GPU", "Tip", "Trainer", "Warning", "Epoch"))


def test_results_agree(inferred, cells):
    _, out = inferred
    assignments = pd.read_csv(out / "assignments.csv", index_col="barcode")
    metacells = anndata.read_h5ad(out / "metacells.h5ad")

    assert list(assignments.index) == list(cells.obs_names)
    assert list(assignments.columns) == ["metacell", "margin"]
    assert (assignments["margin"] >= 0).all()
    sizes = assignments["metacell"].value_counts()
    assert len(metacells) == N_METACELLS
    assert (metacells.obs["n_cells"] == sizes[metacells.obs_names]).all()
    assert metacells.layers["counts"].sum() == cells.X.sum()


def test_model_gives_the_same_assignments(inferred, path):
    _, out = inferred
    model = scmetaq.MetaQModel.load(out / "model", anndata.read_h5ad(path))
    again, written = model.get_assignments(), pd.read_csv(out / "assignments.csv", index_col=0)
    pd.testing.assert_frame_equal(again, written, check_names=False, check_dtype=False)


def test_printed_quality_is_that_of_the_metacells(inferred, cells):
    outcome, out = inferred
    assignments = pd.read_csv(out / "assignments.csv", index_col="barcode")["metacell"]
    frame = scmetaq.metrics.evaluate(cells, assignments, "cell_type", conditions="lane")
    for metric in ("compactness", "separation", "purity", "mixing"):
        mean = frame.loc[frame["metric"] == metric, "value"].mean()
        (line,) = [line for line in outcome.out.splitlines() if line.startswith(metric)]
        assert f"{mean:.3f}" in line


def test_report_tells_of_the_run(inferred, path):
    page = (inferred[1] / "report.html").read_text()
    command = f"scmetaq infer {path} --n-metacells {N_METACELLS}"
    for words in (f"{N_METACELLS} metacells of 160 cells", command, "cell_type", "Training"):
        assert words in page
    assert "Metacells and <em>lane</em>" in page


def test_code_in_the_report_runs(printed_code, inferred, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict = {}
    with contextlib.redirect_stderr(io.StringIO()):
        exec(printed_code(inferred[1]), names)
    assert names["cells"].obs["metacell"].notna().all()
    assert names["metacells"].n_obs == N_METACELLS


def test_code_in_the_report_knows_barcodes_that_are_numbers(inferred, cells, tmp_path):
    numbered = cells.copy()
    numbered.obs_names = [str(i) for i in range(cells.n_obs)]
    table = pd.read_csv(inferred[1] / "assignments.csv").assign(barcode=numbered.obs_names)
    table.to_csv(tmp_path / "assignments.csv", index=False)
    paths = {
        "metacells": "",
        "assignments": str(tmp_path / "assignments.csv"),
        "model": str(inferred[1] / "model"),
    }
    code = of_cells(paths, "numbered", "n_cells").partition("# back to the cells")[2]
    names = {"numbered": numbered, "pd": pd, "scmetaq": scmetaq}
    exec(f"#{code}", names)
    assert list(names["cells"].obs["metacell"]) == list(table["metacell"])


def test_demo_needs_nothing_else(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(_infer, "infer", asked.append)
    assert run("infer", "demo").status == 0
    (options,) = asked
    assert options.source.is_demo
    assert options.out == Path("scmetaq-demo")
    assert options.labels_keys == ["cell_type"]
    assert options.command == "scmetaq infer demo"
    assert _input.read_cells(options.source).n_obs == scmetaq.data.demo().n_obs


def test_zarr_store_is_read(run, cells, tmp_path, untrained):
    cells.write_zarr(tmp_path / "cells.zarr")
    outcome = run("infer", tmp_path / "cells.zarr", "--out", tmp_path / "out")
    assert f"Read 160 cells x {cells.n_vars} features" in outcome.err
    assert "--n-metacells is left out: 3, one per 50 cells" in outcome.err
    assert outcome.status == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--layer", "lognorm"), ("log-normalised", "--layer")),
        (("--layer", "missing"), ("No layer 'missing'", "'lognorm'")),
        (("--labels-key", "missing"), ("No column 'missing'", "'cell_type'")),
        (("--labels-key", "nothing"), ("All values", "'nothing'")),
        (("--n-metacells", "160"), ("fewer than the 160 cells", "--n-metacells 3")),
        (("--n-metacells", "1"), ("--n-metacells", "2")),
        (("--n-metacells", "few"), ("--n-metacells", "integer")),
        (("--modality", "protein"), ("--modality", "'adt'")),
        (("--max-epochs", "0"), ("--max-epochs", "1")),
        (("--metacells", "5"), ("No such option", "--metacells")),
    ],
)
def test_bad_options_are_refused(run, path, tmp_path, untrained, words, told):
    outcome = run("infer", path, "--out", tmp_path / "out", *words)
    assert outcome.refuses(*told), outcome
    assert "KeyError" not in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.h5ad", ("There is no", "none.h5ad")),
        ("cells.csv", (".h5ad", ".h5mu", ".zarr", "demo", "cells.csv")),
        ("none.h5mu", ("There is no", "none.h5mu")),
    ],
)
def test_bad_inputs_are_refused(run, tmp_path, name, told):
    assert run("infer", name, "--out", tmp_path / "out").refuses(*told)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_file_is_refused(run, path, tmp_path, share):
    broken = tmp_path / "broken.h5ad"
    whole = path.read_bytes()
    broken.write_bytes(whole[: int(share * len(whole))])
    outcome = run("infer", broken, "--out", tmp_path / "out")
    assert outcome.refuses("broken.h5ad cannot be read as AnnData", "truncated"), outcome
    assert not (tmp_path / "out").exists()


def test_store_of_another_kind_is_refused(run, tmp_path):
    (tmp_path / "cells.zarr").mkdir()
    outcome = run("infer", tmp_path / "cells.zarr", "--out", tmp_path / "out")
    assert outcome.refuses("cells.zarr cannot be read as AnnData"), outcome


def test_missing_words_are_refused(run, path):
    assert run("infer").refuses("INPUT")
    assert run("infer", path).refuses("--out")
    assert run("evaluate", path).refuses("ASSIGNMENTS")
    assert run("guess").refuses("guess")


def test_missing_device_is_refused_before_training(run, path, tmp_path, untrained, monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    outcome = run("infer", path, "--out", tmp_path / "out", "--accelerator", "mps")
    assert outcome.refuses("no mps", "--accelerator"), outcome


def test_an_earlier_result_is_kept(run, path, earlier):
    assert run("infer", path, "--out", earlier).refuses("exists", "--overwrite")
    assert (earlier / "report.html").read_text() == "old"


def test_an_earlier_result_is_replaced_if_asked(run, inferred, path, earlier):
    _, out = inferred
    words = ("--labels-key", "cell_type", "--overwrite")
    outcome = run("evaluate", path, out / "assignments.csv", "--out", earlier, *words)
    assert outcome.status == 0, outcome.err
    assert {file.name for file in earlier.iterdir()} == {"metrics.csv", "report.html"}
    assert (earlier / "report.html").read_text() != "old"
    assert [file.name for file in earlier.parent.iterdir()] == ["earlier"]


def test_a_directory_of_other_things_is_never_replaced(run, path, earlier):
    (earlier / "thesis.tex").write_text("years")
    outcome = run("infer", path, "--out", earlier, "--overwrite")
    assert outcome.refuses("thesis.tex", "not replaced"), outcome
    assert (earlier / "thesis.tex").read_text() == "years"


def test_inputs_are_never_replaced(run, inferred, path):
    _, out = inferred
    outcome = run("evaluate", path, out / "assignments.csv", "--out", out.parent, "--overwrite")
    assert outcome.refuses("choose another --out"), outcome
    inside = run("infer", out / "metacells.h5ad", "--out", out, "--overwrite")
    assert inside.refuses("lies in", "choose another --out"), inside
    assert {file.name for file in out.iterdir()} == FILES


def test_a_file_is_no_directory(run, path, tmp_path):
    (tmp_path / "file").touch()
    assert run("infer", path, "--out", tmp_path / "file", "--overwrite").refuses("is a file")
    assert run("infer", path, "--out", tmp_path / "file" / "run").refuses("is a file")


def test_a_failed_training_leaves_nothing(run, path, tmp_path, earlier, untrained):
    for out, words in ((tmp_path / "new", ()), (earlier, ("--overwrite",))):
        outcome = run("infer", path, "--out", out, *words)
        assert outcome.status == 1
        last = outcome.err.strip().splitlines()[-1]
        assert last.startswith("Error: scmetaq failed with RuntimeError: out of [memory]. ")
        assert "--debug" in last
        assert "Traceback" not in outcome.err
    assert [file.name for file in tmp_path.iterdir()] == ["earlier"]
    assert (earlier / "report.html").read_text() == "old"


def test_a_failed_writing_leaves_nothing(run, inferred, path, earlier, monkeypatch):
    def to_csv(frame, path, **kwargs):
        Path(path).write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", to_csv)
    table = inferred[1] / "assignments.csv"
    outcome = run("evaluate", path, table, "--out", earlier, "--overwrite")
    assert outcome.status == 1
    assert "OSError: disk full" in outcome.err
    assert [file.name for file in earlier.parent.iterdir()] == ["earlier"]
    assert (earlier / "report.html").read_text() == "old"


@pytest.mark.parametrize("error", [RuntimeError("no picture"), KeyboardInterrupt()])
def test_without_a_report_the_metrics_stay(run, inferred, path, earlier, monkeypatch, error):
    def write_report(path, *args, **kwargs):
        raise error

    monkeypatch.setattr("scmetaq.report.write_report", write_report)
    table = inferred[1] / "assignments.csv"
    outcome = run("evaluate", path, table, "--out", earlier, "--overwrite")
    assert outcome.status == (1 if isinstance(error, RuntimeError) else 130)
    assert f"Everything but the report is in {earlier}." in outcome.err
    assert [file.name for file in earlier.iterdir()] == ["metrics.csv"]
    assert "compactness" in set(pd.read_csv(earlier / "metrics.csv")["metric"])


@pytest.mark.parametrize("error", [RuntimeError("no picture"), KeyboardInterrupt()])
def test_without_a_report_the_results_stay(run, path, earlier, monkeypatch, error):
    def write_report(path, *args, **kwargs):
        raise error

    monkeypatch.setattr("scmetaq.report.write_report", write_report)
    words = ("--n-metacells", N_METACELLS, "--max-epochs", 1, "--overwrite")
    outcome = run("infer", path, "--out", earlier, *words)
    is_failure = isinstance(error, RuntimeError)
    assert outcome.status == (1 if is_failure else 130)
    assert f"Everything but the report is in {earlier}." in outcome.err
    last = outcome.err.strip().splitlines()[-1]
    expected = "scmetaq failed with RuntimeError: no picture. " if is_failure else "Stopped before "
    assert last.startswith(f"Error: {expected}")
    assert {file.name for file in earlier.iterdir()} == FILES - {"report.html"}
    scmetaq.MetaQModel.load(earlier / "model", False)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, "lightning", "scheduler"])
def test_a_stopped_run_leaves_nothing(run, path, tmp_path, monkeypatch, stop):
    def train(self, *args, **kwargs):
        try:
            if stop == "scheduler":
                os.kill(os.getpid(), signal.SIGTERM)
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if stop == "lightning":
                sys.exit(1)
            raise

    monkeypatch.setattr(scmetaq.MetaQModel, "train", train)
    outcome = run("infer", path, "--out", tmp_path / "out")
    assert outcome.status == 130
    assert outcome.err.endswith("Error: Stopped before all results were written.\n")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_debug_shows_the_traceback(run, path, tmp_path, untrained):
    outcome = run("infer", path, "--out", tmp_path / "out", "--debug")
    assert outcome.status == 1
    assert "Traceback" in outcome.err
    outcome = run("infer", path, "--out", tmp_path / "out", "--layer", "missing", "--debug")
    assert outcome.status == 2
    assert "Traceback" in outcome.err


def test_warnings_for_the_user_are_told(run, cells, tmp_path, untrained):
    silent = cells.copy()
    silent.X[:, 0] = 0
    silent.write_h5ad(tmp_path / "silent.h5ad")
    outcome = run("infer", tmp_path / "silent.h5ad", "--out", tmp_path / "out")
    (note,) = [line for line in outcome.err.splitlines() if line.startswith("Note: ")]
    assert f"1 of {cells.n_vars} features have no counts" in note


def test_evaluate_gives_the_numbers_of_the_metrics(run, inferred, path, cells, tmp_path):
    table = inferred[1] / "assignments.csv"
    out = tmp_path / "judged"
    outcome = run("evaluate", path, table, "--labels-key", "cell_type", "--out", out)
    assert outcome.status == 0, outcome.err
    written = pd.read_csv(out / "metrics.csv")
    assignment = pd.read_csv(table, index_col="barcode")["metacell"]
    frame = scmetaq.metrics.evaluate(cells, assignment, "cell_type")
    assert list(written.columns) == ["metric", "metacell", "value", "better"]
    np.testing.assert_allclose(written["value"], frame["value"])
    assert "6 metacells of 160 cells" in (out / "report.html").read_text()


def test_evaluate_judges_the_mixing_of_batches(run, inferred, path, cells, tmp_path):
    table, out = inferred[1] / "assignments.csv", tmp_path / "judged"
    words = ("--labels-key", "cell_type", "--batch-key", "lane")
    outcome = run("evaluate", path, table, *words, "--out", out)
    assert outcome.status == 0, outcome.err
    written = pd.read_csv(out / "metrics.csv").set_index("metric")["value"]
    assignment = pd.read_csv(table, index_col="barcode")["metacell"]
    expected = scmetaq.metrics.mixing(assignment, cells.obs["lane"], cells.obs["cell_type"])
    np.testing.assert_allclose(written["mixing"], expected.mixing)
    np.testing.assert_allclose(written["one_condition"], expected.one_condition)
    page = (out / "report.html").read_text()
    assert "Metacells and <em>lane</em>" in page
    assert f"Mixing {expected.mixing:.3f}" in page


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "infer a.h5ad --labels-key x y --out o",
            "infer a.h5ad --labels-key x --labels-key y --out o",
        ),
        (
            "infer a.h5ad --covariate-key x y z",
            "infer a.h5ad --covariate-key x --covariate-key y --covariate-key z",
        ),
        ("infer a.h5ad --labels-key=x y", "infer a.h5ad --labels-key=x --labels-key y"),
        ("infer a.h5ad --out o p", None),
        ("infer --labels-key x a.h5ad", None),
        ("evaluate a.h5ad b.csv --labels-key x y", None),
        ("infer", None),
        ("", None),
    ],
)
def test_options_take_several_values_after_the_input(words, expected):
    assert _repeat_options(words.split()) == (expected or words).split()


def test_several_labels_and_covariates(run, path, tmp_path):
    cells = anndata.read_h5ad(path)
    cells.obs["run"], cells.obs["level"] = "only", np.arange(cells.n_obs) % 3
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path)
    words = ("--labels-key", "cell_type", "level", "--max-epochs", 1, "--n-metacells", 4)
    words += ("--batch-key", "run", "--covariate-key", "lane", "run2")
    assert run("infer", path, *words, "--out", tmp_path / "out").refuses("run2")
    words = words[:-1]
    outcome = run("infer", path, *words, "--out", tmp_path / "out", "--accelerator", "cpu")
    assert outcome.status == 0, outcome.err
    metacells = anndata.read_h5ad(tmp_path / "out" / "metacells.h5ad")
    assert {"cell_type_fraction", "level_fraction"} <= set(metacells.obs)
    assert "of one category only" not in (tmp_path / "out" / "report.html").read_text()


def test_notes_are_in_words_of_the_command(run, inferred, cells, tmp_path):
    _, out = inferred
    logged = cells.copy()
    logged.X = logged.X.log1p()
    logged.write_h5ad(tmp_path / "logged.h5ad")
    words = (tmp_path / "logged.h5ad", out / "assignments.csv", "--out", tmp_path / "judged")
    outcome = run("evaluate", *words)
    assert outcome.status == 0, outcome.err
    assert "found fractions" in outcome.err
    assert "--layer" in outcome.err
    assert "layer=" not in outcome.err


def test_evaluate_reads_the_table_of_another_method(run, path, cells, tmp_path):
    groups = pd.Series(np.arange(160) % 4, index=cells.obs_names).sample(frac=1, random_state=0)
    groups[cells.obs_names[:10]] = -1
    groups = pd.concat([groups.drop(cells.obs_names[10]), pd.Series({"stranger": 0})])
    groups.rename("SEACell").to_csv(tmp_path / "others.tsv", sep="\t", index_label="cell")

    outcome = run("evaluate", path, tmp_path / "others.tsv", "--out", tmp_path / "judged")
    assert outcome.status == 0, outcome.err
    assert "1 of 160 barcodes of" in outcome.err
    assert "1 of 160 cells of" in outcome.err
    frame = pd.read_csv(tmp_path / "judged" / "metrics.csv").set_index("metric")["value"]
    assert frame["n_metacells"] == 4
    assert frame["unassigned"] == 11


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("barcode,metacell\nx,a\ny,b\n", ("None of the barcodes", "'x'")),
        ("barcode,one,two\nx,a,b\n", ("barcode and metacell", "'two'")),
        ("", ("cannot be read as a table",)),
        ("barcode,metacell\nx,a\nx,b\n", ("one row per barcode", "'x'")),
        ("barcode;metacell\nx;a\n", ("Expected commas", "semicolons in 'barcode;metacell'")),
        ("barcode;metacell;margin\nx;a;0,5\n", ("Expected commas", "found semicolons")),
        ("barcode\tmetacell\nx\ta\n", ("Expected commas", "found tabs")),
    ],
)
def test_bad_tables_are_refused(run, path, tmp_path, text, told):
    (tmp_path / "table.csv").write_text(text)
    outcome = run("evaluate", path, tmp_path / "table.csv", "--out", tmp_path / "out")
    assert outcome.refuses(*told), outcome
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["table.txt", "table.parquet", "table", "table.gz"])
def test_tables_of_another_form_are_refused(run, path, tmp_path, name):
    (tmp_path / name).write_bytes(b"PAR1\xff\xfe")
    outcome = run("evaluate", path, tmp_path / name, "--out", tmp_path / "out")
    assert outcome.refuses("a .csv file with commas or a .tsv file with tabs", name), outcome


def test_a_table_without_a_header_is_refused(run, path, cells, tmp_path):
    groups = pd.Series(np.arange(160) % 4, index=cells.obs_names)
    groups.to_csv(tmp_path / "table.csv", header=False)
    outcome = run("evaluate", path, tmp_path / "table.csv", "--out", tmp_path / "out")
    first = repr(cells.obs_names[0])
    assert outcome.refuses("to have a header", first, "barcode,metacell"), outcome
    assert "Judging" not in outcome.err


@pytest.mark.parametrize("none", ["NA", "nan", "NaN", "", "-1", " -1 ", "-1.0", "<NA>"])
def test_words_for_no_metacell_are_no_metacell(tmp_path, none):
    lines = ["barcode,metacell,margin", f"cell0,{none},NA", "NA,mc1,0.5", "cell2, mc1,0.25"]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    table = read_assignments(tmp_path / "table.csv")
    assert table.index.tolist() == ["cell0", "NA", "cell2"]
    assert table["metacell"].isna().tolist() == [True, False, False]
    assert table["metacell"].tolist()[1:] == ["mc1", "mc1"]
    np.testing.assert_array_equal(table["margin"], [np.nan, 0.5, 0.25])


def test_compressed_tables_are_read(tmp_path):
    table = pd.DataFrame({"barcode": ["a", "b"], "metacell": ["x", "y"]})
    table.to_csv(tmp_path / "table.tsv.gz", sep="\t", index=False)
    assert read_assignments(tmp_path / "table.tsv.gz")["metacell"].tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("option", "value", "there"),
    [
        ("--labels-key", "missing", "'cell_type'"),
        ("--batch-key", "missing", "'lane'"),
        ("--layer", "missing", "'lognorm'"),
        ("--labels-key", "decimal", "decimal numbers"),
    ],
)
def test_evaluate_refuses_names_before_it_works(run, cells, tmp_path, option, value, there):
    cells = cells.copy()
    cells.obs["decimal"] = np.linspace(0, 1, 160)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    groups = pd.Series(np.arange(160) % 4, index=cells.obs_names, name="metacell")
    groups.to_csv(tmp_path / "table.csv", index_label="barcode")
    words = (tmp_path / "cells.h5ad", tmp_path / "table.csv", "--out", tmp_path / "out")
    refused = run("evaluate", *words, option, value)
    assert refused.refuses(f"'{value}'", option, there), refused
    assert "Judging" not in refused.err
    assert not (tmp_path / "out").exists()


def test_decimal_labels_are_refused_before_training(run, cells, tmp_path, untrained):
    cells = cells.copy()
    cells.obs["decimal"] = np.linspace(0, 1, 80).repeat(2)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    words = ("--labels-key", "decimal", "--out", tmp_path / "out")
    outcome = run("infer", tmp_path / "cells.h5ad", *words)
    assert outcome.refuses("'decimal'", "--labels-key", "decimal numbers"), outcome


@pytest.mark.parametrize("out", ["o" * 300, "o" * 250, "deep/" + "o" * 300])
def test_evaluate_refuses_names_that_are_too_long(run, path, tmp_path, out):
    (tmp_path / "table.csv").write_text("barcode,metacell\nx,a\n")
    outcome = run("evaluate", path, tmp_path / "table.csv", "--out", tmp_path / out)
    assert outcome.refuses("cannot be made (File name too long)", "--out"), outcome
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_evaluate_refuses_what_the_file_system_refuses(run, path, tmp_path, monkeypatch):
    (tmp_path / "table.csv").write_text("barcode,metacell\nx,a\n")

    def mkdir(self, *args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    outcome = run("evaluate", path, tmp_path / "table.csv", "--out", tmp_path / "out")
    assert outcome.refuses("cannot be made (Read-only file system)", "--out"), outcome


def test_arguments_are_told_as_options():
    told = _errors.in_words_of_the_command("Expected `labels` and `conditions`, found no `layer`.")
    assert told == "Expected --labels-key and --batch-key, found no --layer."


def test_key_errors_read_like_sentences():
    with pytest.raises(_errors.BadInput, match=r"^no 'a' and \"b\" here$"), _errors.bad_input():
        raise KeyError("no 'a' and \"b\" here")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["infer", "none.h5ad"], []])
def test_nothing_heavy_is_loaded_before_it_is_needed(words):
    code = (
        "import sys, types\n"
        "package = types.ModuleType('scmetaq')\n"  # without what the package itself imports
        f"package.__path__ = [{str(SOURCE)!r}]\n"
        "sys.modules['scmetaq'] = package\n"
        "from scmetaq.cli import main\n"
        "try:\n"
        f"    main({words!r})\n"
        "finally:\n"
        "    heavy = {'torch', 'scvi', 'scanpy', 'anndata', 'pandas', 'matplotlib', 'jax'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "AssertionError" not in done.stderr
    assert done.returncode == (2 if words[:1] == ["infer"] else 0)
    if words == ["--version"]:
        assert done.stdout.strip() == f"scmetaq {scmetaq.__version__}"
