"""Interrupted runs: what is whole stays, and they go on to the results of an uninterrupted one."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from anndata.experimental import write_dispatched

import scmetaq
from scmetaq.cli import _checkpoints
from scmetaq.model._plain import restored

OPTIONS = ("--n-metacells", 6, "--max-epochs", 3, "--accelerator", "cpu", "--batch-key", "lane")
RESULTS = {"assignments.csv", "metacells.h5ad", "model", "report.html", "run.json"}
N_KILLS, N_KILLS_BY_TIME = 20, 5


def results(out):
    """Bytes of tables and metacells, and the state of the model as bytes."""
    model = torch.load(out / "model" / "model.pt", weights_only=True)
    tensors = {k: v for k, v in model["model_state_dict"].items() if isinstance(v, torch.Tensor)}
    state = {name: of.numpy().tobytes() for name, of in tensors.items()}
    history = restored(model["attr_dict"]["history_"])
    curves = {name: of.to_csv() for name, of in history.items()}
    files = {name: (out / name).read_bytes() for name in ("assignments.csv", "metacells.h5ad")}
    return files | state | curves


def snapshot(out):
    """All files but checkpoints, of where the results are or, between two renames, were."""
    out = out if out.exists() else out.with_name(f".{out.name}.scmetaq-earlier")
    files = [path for path in out.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(run, path, tmp_path_factory):
    """Results of a run that nothing has interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    outcome = run("infer", path, "--out", out, *OPTIONS)
    assert outcome.status == 0, outcome.err
    return out


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_results(forks, path, tmp_path):
    out, kept = forks.folder / "out", tmp_path / "earlier"
    words = ("infer", path, "--out", out, *OPTIONS)
    assert forks(*words, "--seed", 1)[0] == 0
    shutil.copytree(out, kept)
    earlier = snapshot(kept)
    status, n_changes, seconds, said = forks(*words, "--overwrite")
    assert status == 0, said
    expected, n_resumed = results(out), 0
    assert expected["assignments.csv"] != earlier["assignments.csv"]
    kills = [{"kill_before": int(n)} for n in np.linspace(1, n_changes, N_KILLS).round()]
    shares = np.linspace(0.2, 0.95, N_KILLS_BY_TIME)
    for kill in [*kills, *({"kill_after": seconds * share} for share in shares)]:
        shutil.rmtree(out)
        shutil.copytree(kept, out)
        status, *_ = forks(*words, "--overwrite", **kill)
        assert status == -9 or "kill_after" in kill, kill
        there = snapshot(out)
        is_replaced = there["run.json"] != earlier["run.json"]
        assert there == earlier or is_replaced, kill
        assert not is_replaced or results(out) == expected, kill
        status, *_, said = forks(*words, "--overwrite", "--resume")
        assert status == 0, (kill, said)
        assert results(out) == expected, kill
        assert set(os.listdir(out)) == RESULTS, kill
        assert os.listdir(forks.folder) == ["out"], kill
        n_resumed += "Going on after" in said
    assert n_resumed > N_KILLS // 2


@pytest.mark.slow
def test_no_space_left_at_any_write_is_one_clear_error(forks, path, whole):
    """The largest file that can be written is smaller than the next one."""
    out = forks.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    words = ("infer", path, "--out", out, *OPTIONS, "--resume")
    assert forks(*words, largest_file=0, kill_before="partial-assignments.csv")[0] == -9
    for stage, size in (("prototypes", 3_000), ("assignment", 60_000), ("aggregation", 1_000_000)):
        status, *_, said = forks(*words, largest_file=size)
        last = said.strip().splitlines()[-1]
        assert status == 2, said
        assert last.startswith(f"Error: There is no space left for {out}"), said
        assert last.endswith(f"Pass --resume to go on after {stage}."), said
        assert not list(out.rglob("partial*"))
    status, *_, said = forks(*words)
    assert status == 0, said
    assert results(out) == results(whole)
    shutil.rmtree(out)
    status, *_, said = forks(*words, largest_file=1_000_000)
    assert (status, os.listdir(forks.folder)) == (2, []), said
    assert said.strip().endswith("free some, and run it again."), said


def interrupt(monkeypatch, stage, error):
    """Let the run fail in the stage after this one."""

    def failing(*args, **kwargs):
        raise error

    model = "scmetaq.MetaQModel."
    after = {
        "statistics": model + "_fit_codes",
        "codes": "scvi.model.base.UnsupervisedTrainingMixin.train",
        "training": model + "_finish",
        "prototypes": model + "get_assignments",
        "assignment": model + "_metacells_of",
        "aggregation": model + "save",
    }
    monkeypatch.setattr(after[stage], failing)


@pytest.fixture
def unfinished(run, path, tmp_path, monkeypatch):
    """Directory of a run that failed after its training."""
    with monkeypatch.context() as during:
        interrupt(during, "training", RuntimeError("odd"))
        assert run("infer", path, "--out", tmp_path / "out", *OPTIONS).status == 1
    return tmp_path / "out"


@pytest.mark.parametrize("stage", _checkpoints._FILES)
@pytest.mark.parametrize(
    "error", [RuntimeError("odd"), KeyboardInterrupt()], ids=["error", "ctrl-c"]
)
def test_a_run_goes_on_after_each_stage_and_repeats_none(
    run, path, whole, tmp_path, monkeypatch, stage, error
):
    out = tmp_path / "out"
    words = ("infer", path, "--out", out, *OPTIONS)
    with monkeypatch.context() as during:
        interrupt(during, stage, error)
        outcome = run(*words, "--resume")
    assert outcome.status == (1 if isinstance(error, RuntimeError) else 130)
    assert f"Pass --resume to go on after {stage}." in outcome.err
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(out) == ["checkpoints"]
    refused = run(*words)
    assert refused.refuses("unfinished run", "--resume", "--overwrite"), refused
    with monkeypatch.context() as during:
        done = list(_checkpoints._FILES)
        for earlier in ["none", *done][: done.index(stage) + 1]:
            if earlier == "none":
                monkeypatch.setattr("scmetaq.model._metaq.fit_statistics", None)
            else:
                interrupt(during, earlier, AssertionError(f"again what follows {earlier}"))
        outcome = run(*words, "--resume")
    assert outcome.status == 0, outcome.err
    assert f"Going on after {stage}." in outcome.err
    assert results(out) == results(whole)
    assert set(os.listdir(out)) == RESULTS
    assert f"since the run went on after {stage}" in (out / "report.html").read_text()


def test_a_run_without_its_report_gets_it_and_a_complete_one_stays(
    run, path, whole, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    words = ("infer", path, "--out", out, *OPTIONS, "--resume")
    with monkeypatch.context() as during:
        during.setattr("scmetaq.report.write_report", None)
        outcome = run(*words)
    assert outcome.status == 1
    assert f"Everything but the report is in {out}. Pass --resume to write it." in outcome.err
    before = snapshot(out)
    assert results(out) == results(whole)
    assert run(*words).status == 0
    after = snapshot(out)
    assert "purity" not in after.pop("report.html").decode()
    assert after == before
    outcome = run(*words)
    assert outcome.status == 0
    assert outcome.err == f"All results of this run are in {out} already.\n"
    assert {**after, "report.html": b""} == {**snapshot(out), "report.html": b""}
    other = run(*words, "--seed", 1)
    assert other.refuses("exists", "--overwrite"), other
    (out / "report.html").unlink()
    assert run(*words).refuses("exists", "--overwrite")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--seed", 1), "--seed was 0 and is 1 now"),
        (("--labels-key", "cell_type", "run"), "--labels-key was left out and is cell_type run"),
        (("--batch-key", "run"), "--batch-key was lane and is run now"),
    ],
)
def test_other_options_are_refused(run, path, unfinished, words, told):
    before = sorted(unfinished.rglob("*"))
    for more in ((), ("--overwrite",)):
        outcome = run("infer", path, "--out", unfinished, *OPTIONS, *words, "--resume", *more)
        assert outcome.refuses("unfinished run, but " + told, "--overwrite"), outcome
    assert sorted(unfinished.rglob("*")) == before


def test_other_inputs_and_versions_are_refused(run, path, unfinished, tmp_path, monkeypatch):
    copied = shutil.copy(path, tmp_path / "copy.h5ad")
    words = ("--out", unfinished, *OPTIONS, "--resume")
    told = f"INPUT was {path} and is {path}, {copied} now"
    assert run("infer", path, copied, *words).refuses(told)
    monkeypatch.setattr(_checkpoints, "version", lambda package: "9.9")
    outcome = run("infer", path, *words)
    assert outcome.refuses(f"scmetaq was {scmetaq.__version__} and is 9.9 now"), outcome


def test_an_unfinished_run_is_started_again_if_asked(run, path, whole, unfinished):
    words = ("infer", path, "--out", unfinished, *OPTIONS, "--overwrite")
    with pytest.MonkeyPatch.context() as during:
        during.setattr("scmetaq.model._metaq.fit_statistics", None)
        assert run(*words).status == 1
    assert (unfinished / "checkpoints" / "training.npz").exists()  # no stage of this run
    outcome = run(*words)
    assert outcome.status == 0, outcome.err
    assert "Going on" not in outcome.err
    assert results(unfinished) == results(whole)
    assert set(os.listdir(unfinished)) == RESULTS


def test_an_input_that_changes_is_noticed(run, path, unfinished, tmp_path, monkeypatch):
    mine = Path(shutil.copy(path, tmp_path / "mine.h5ad"))
    fit = scmetaq.MetaQModel._finish

    def finish(*args):
        os.utime(mine, (1, 1))
        return fit(*args)

    words = ("infer", mine, "--out", tmp_path / "mine", *OPTIONS)
    with monkeypatch.context() as during:
        during.setattr(scmetaq.MetaQModel, "_finish", finish)
        outcome = run(*words)
    assert outcome.refuses(f"{mine} has changed since the run began.", "--overwrite"), outcome
    assert "go on" not in outcome.err
    outcome = run(*words, "--resume")
    assert outcome.refuses("unfinished run, but", f"{mine} has changed since"), outcome


def test_a_damaged_checkpoint_is_refused(run, path, unfinished):
    file = unfinished / "checkpoints" / "training.npz"
    file.write_bytes(file.read_bytes()[:-1000])
    outcome = run("infer", path, "--out", unfinished, *OPTIONS, "--resume")
    assert outcome.refuses(f"checkpoint {file} cannot be read", "--overwrite"), outcome


def test_notes_of_finished_stages_are_kept_for_the_report(tmp_path):
    def output(notes, resume):
        of_job = {"resume": resume, "notes": notes, "note": notes.append}
        found = _checkpoints.Checkpoints(tmp_path / "out", [], {}, [], **of_job)
        found.check(overwrite=False, inputs=[])
        return found

    output(["odd"], False)["training"] = {"x": np.ones(2)}
    notes = []
    assert list(output(notes, True)["training"]) == ["x"]
    assert notes == ["odd"]


def test_checkpoints_of_others_are_never_removed(run, path, tmp_path):
    theirs = tmp_path / "out" / "checkpoints" / "epoch1.ckpt"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    for words in ((), ("--overwrite",), ("--resume",), ("--overwrite", "--resume")):
        outcome = run("infer", path, "--out", tmp_path / "out", *OPTIONS, *words)
        assert outcome.refuses("checkpoints/epoch1.ckpt", "not replaced"), outcome
        assert theirs.exists()


@pytest.mark.parametrize("is_there", [False, True])
def test_a_replacement_that_was_interrupted_is_undone_or_finished(run, path, tmp_path, is_there):
    """By the next run of any command, also one that fails."""
    out, before = tmp_path / "out", tmp_path / ".out.scmetaq-earlier"
    before.mkdir()
    (before / "metrics.csv").write_text("old")
    (tmp_path / ".out.scmetaq-partial").mkdir()
    if is_there:
        out.mkdir()
        (out / "metrics.csv").write_text("new")
    table = tmp_path / "table.csv"
    table.write_text("barcode,metacell\nx,a\n")
    outcome = run("evaluate", path, table, "--out", out)
    assert outcome.refuses("exists"), outcome
    assert (out / "metrics.csv").read_text() == ("new" if is_there else "old")
    assert sorted(os.listdir(tmp_path)) == ["out", "table.csv"]


def test_a_shard_that_is_cut_short_is_one_clear_error(run, cells, tmp_path, monkeypatch):
    store, out = tmp_path / "cells.zarr", tmp_path / "out"
    sharded = {"chunks": (500,), "shards": (50_000,)}

    def write_sharded(write_func, group, key, elem, dataset_kwargs, iospec):
        is_long = iospec.encoding_type == "array" and elem.size > 1_000
        write_func(group, key, elem, dataset_kwargs=sharded if is_long else {})

    clean = cells[:, :].copy()
    for part in (clean.layers, clean.obsm):
        part.clear()
    group = zarr.open_group(store, mode="w", zarr_format=3)
    write_dispatched(group, "/", clean, callback=write_sharded)
    monkeypatch.setattr("scmetaq.data._files.MOST_IN_MEMORY", 0)
    assign = scmetaq.MetaQModel.get_assignments

    def cut(model):
        shard = max((store / "X" / "data" / "c").iterdir())
        shard.write_bytes(shard.read_bytes()[:-100])
        return assign(model)

    monkeypatch.setattr(scmetaq.MetaQModel, "get_assignments", cut)
    outcome = run("infer", store, "--out", out, *OPTIONS)
    told = (f"Counts of the rows 0 to 160 of {store} cannot be read", "truncated", "Copy")
    assert outcome.refuses(*told, f"{store} has changed since", "--overwrite"), outcome
    outcome = run("infer", store, "--out", tmp_path / "new", *OPTIONS, "--resume")
    assert outcome.refuses(*told), outcome
    assert not (tmp_path / "new").exists()
