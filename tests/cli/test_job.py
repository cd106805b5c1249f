"""Results are there as a whole or not at all; code to go on with."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import scmetaq
from scmetaq.cli._inputs import read_assignments
from scmetaq.cli._job import as_cell, code_after, write_table


def fail(error):
    def failing(*args, **kwargs):
        raise error

    return failing


def test_results_are_not_replaced_unasked_nor_is_anything_else(run, path, earlier, tmp_path):
    assert run("infer", path, "--out", earlier).refuses("exists", "--overwrite")
    assert (earlier / "report.html").read_text() == "old"
    (earlier / "thesis.tex").write_text("years")
    outcome = run("infer", path, "--out", earlier, "--overwrite")
    assert outcome.refuses("thesis.tex", "not replaced"), outcome
    assert (earlier / "thesis.tex").read_text() == "years"
    (tmp_path / "file").touch()
    assert run("infer", path, "--out", tmp_path / "file", "--overwrite").refuses("is a file")
    assert run("infer", path, "--out", tmp_path / "file" / "run").refuses("Not a directory")


def test_earlier_results_are_replaced_if_asked_and_inputs_never(run, inferred_adata, path, earlier):
    words = ("--labels-key", "cell_type", "--overwrite")
    outcome = run("evaluate", path, inferred_adata.table, "--out", earlier, *words)
    assert outcome.status == 0, outcome.err
    assert set(os.listdir(earlier)) == {"metrics.csv", "report.html"}
    assert (earlier / "report.html").read_text() != "old"
    assert os.listdir(earlier.parent) == ["earlier"]
    out, files = inferred_adata.out, set(os.listdir(inferred_adata.out))
    outcome = run("evaluate", path, inferred_adata.table, "--out", out.parent, "--overwrite")
    assert outcome.refuses("choose another --out"), outcome
    inside = run("infer", out / "metacells.h5ad", "--out", out, "--overwrite")
    assert inside.refuses("lies in", "choose another --out"), inside
    assert set(os.listdir(out)) == files


def test_a_link_stays_and_what_it_leads_to_is_replaced(run, inferred_adata, path, earlier):
    (earlier.parent / "link").symlink_to(earlier)
    words = ("evaluate", path, inferred_adata.table, "--out", earlier.parent / "link")
    assert run(*words).refuses("exists", "--overwrite")
    outcome = run(*words, "--overwrite")
    assert outcome.status == 0, outcome.err
    assert (earlier.parent / "link").readlink() == earlier
    assert set(os.listdir(earlier)) == {"metrics.csv", "report.html"}
    assert set(os.listdir(earlier.parent)) == {"link", earlier.name}


@pytest.mark.slow
@pytest.mark.parametrize("stdout", [">&-", "| true", ">/dev/full"])
def test_results_are_whole_where_nothing_can_be_printed(inferred_adata, path, tmp_path, stdout):
    program = f"{sys.executable} -W ignore -c 'from scmetaq.cli import main; main()'"
    words = f"evaluate {path} {inferred_adata.table} --out {tmp_path / 'out'}"
    done = subprocess.run(f"{program} {words} {stdout}", shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert set(os.listdir(tmp_path / "out")) == {"metrics.csv", "report.html"}


def test_folders_that_cannot_be_made_are_refused(run, path, tmp_path, monkeypatch):
    (tmp_path / "table.csv").write_text("barcode,metacell\nx,a\n")
    words = ("evaluate", path, tmp_path / "table.csv", "--out")
    for out in ("o" * 300, "o" * 250, "deep/" + "o" * 300):
        outcome = run(*words, tmp_path / out)
        assert outcome.refuses("cannot be made (File name too long)", "--out"), outcome
        assert os.listdir(tmp_path) == ["table.csv"]
    monkeypatch.setattr(Path, "mkdir", fail(OSError(30, "Read-only file system")))
    outcome = run(*words, tmp_path / "out")
    assert outcome.refuses("cannot be made (Read-only file system)", "--out"), outcome


def test_errors_leave_nothing(run, path, tmp_path, earlier, untrained, inferred_adata, monkeypatch):
    for out, words in ((tmp_path / "new", ()), (earlier, ("--overwrite",))):
        outcome = run("infer", path, "--out", out, *words)
        assert outcome.status == 1
        last = outcome.err.strip().splitlines()[-1]
        assert last.startswith("Error: scmetaq failed with RuntimeError: out of [memory] ")
        assert "--debug" in last
        assert "Traceback" not in outcome.err
    assert os.listdir(tmp_path) == ["earlier"]
    assert (earlier / "report.html").read_text() == "old"

    def to_csv(frame, path, **kwargs):
        Path(path).write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", to_csv)
    outcome = run("evaluate", path, inferred_adata.table, "--out", earlier, "--overwrite")
    assert outcome.status == 1
    assert "OSError: disk full" in outcome.err
    assert os.listdir(earlier.parent) == ["earlier"]
    assert (earlier / "report.html").read_text() == "old"


@pytest.mark.parametrize("command", ["infer", "evaluate"])
@pytest.mark.parametrize("error", [RuntimeError("no picture"), KeyboardInterrupt()])
def test_without_a_report_the_results_stay(
    run, inferred_adata, path, earlier, monkeypatch, error, command
):
    monkeypatch.setattr("scmetaq.report.write_report", fail(error))
    words = ("--n-metacells", 6, "--max-epochs", 1)
    words = words if command == "infer" else (inferred_adata.table,)
    outcome = run(command, path, *words, "--out", earlier, "--overwrite")
    is_failure = isinstance(error, RuntimeError)
    assert outcome.status == (1 if is_failure else 130)
    assert f"Everything but the report is in {earlier}." in outcome.err
    last = outcome.err.strip().splitlines()[-1]
    expected = "scmetaq failed with RuntimeError: no picture. " if is_failure else "Stopped before "
    assert last.startswith(f"Error: {expected}")
    if command == "infer":
        assert "Pass --resume to write it." in outcome.err
        expected = set(os.listdir(inferred_adata.out)) - {"report.html"} | {"checkpoints"}
        assert set(os.listdir(earlier)) == expected
        scmetaq.MetaQModel.load(earlier / "model", False)
    else:
        assert os.listdir(earlier) == ["metrics.csv"]
        assert "compactness" in set(pd.read_csv(earlier / "metrics.csv")["metric"])


def code(folder, kinds, **facts):
    files = ["metacells.h5ad", "assignments.csv", "model"]
    facts = {"cells": "numbered", "color": '"kind"', "modality": None, "is_mosaic": False} | facts
    return code_after("infer", folder, files, kinds=kinds, **facts)


def test_code_is_for_the_cells_at_hand():
    one = code(Path(), {"rna": "gex"}, modality="gex")
    assert 'joint.obs["kind"] = metacells["gex"].obs["kind"]' in one
    assert "mu." not in one.replace("mudata.", "")
    mosaic = code(Path(), {"rna": "gex", "atac": "peaks"}, is_mosaic=True)
    assert "mu.pp.intersect_obs(metacells)" in mosaic
    assert 'atac = metacells["peaks"]' in mosaic
    for text in (one, mosaic):
        compile(text, "next", "exec")


def test_code_reads_barcodes_that_are_numbers(inferred_adata, cells, tmp_path):
    numbered = cells.copy()
    numbered.obs_names = [str(i) for i in range(cells.n_obs)]
    table = pd.read_csv(inferred_adata.table).assign(barcode=numbered.obs_names)
    table.to_csv(tmp_path / "assignments.csv", index=False)
    (tmp_path / "model").symlink_to(inferred_adata.out / "model")
    back = code(tmp_path, {}).partition("# back to the cells")[2]
    found = {"numbered": numbered, "pd": pd, "scmetaq": scmetaq}
    exec(f"#{back}", found)
    assert list(found["cells"].obs["metacell"]) == list(table["metacell"])


HARMLESS = ["CD4+ T", "-1", "+", "=", "1-2", "mc0001", "a=b", 3, None]
FORMULAS = ["=cmd|' /C calc'!A0", "@SUM(A1)", "+1+1", "-2+3", "\t=1", "=1"]


def test_spreadsheets_compute_nothing_of_a_table_and_it_is_read_as_it_was(tmp_path):
    path, names = tmp_path / "assignments.csv", [*FORMULAS, *HARMLESS[:-2]]
    table = pd.DataFrame({"metacell": names, "=margin": 0.5}, index=names)
    write_table(path, table)
    cells = list(csv.reader(path.open(newline="")))
    assert cells[0] == ["barcode", "metacell", "'=margin"]
    assert [row[0] for row in cells[1:]] == [f"'{n}" for n in FORMULAS] + HARMLESS[:-2]
    found = read_assignments(path)
    assert found.index.tolist() == names
    assert [as_cell(value) for value in HARMLESS] == HARMLESS
