"""Words of the command line, signals, and what is loaded when."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import scmetaq
from scmetaq.cli._app import _repeat_options

SOURCE = Path(scmetaq.__file__).parent


def test_missing_words_are_refused(run, path):
    assert run("infer").refuses("INPUT")
    assert run("infer", path).refuses("--out")
    assert run("evaluate", path).refuses("evaluate [OPTIONS] INPUT... ASSIGNMENTS.")
    assert run("guess").refuses("guess")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("infer a --labels-key x y --out o", "infer a --labels-key x --labels-key y --out o"),
        ("infer a --covariate-key x y z", "infer a" + " --covariate-key {}" * 3),
        ("infer a --labels-key=x y", "infer a --labels-key=x --labels-key y"),
        ("infer a --out o p", None),
        ("infer --labels-key x a", None),
        ("evaluate a b.csv --labels-key x y", None),
        ("infer", None),
        ("", None),
    ],
)
def test_options_accept_several_values_after_the_input(words, expected):
    expected = (expected or words).format("x", "y", "z")
    assert _repeat_options(words.split()) == expected.split()


@pytest.mark.parametrize("stop", ["user", "lightning", "scheduler"])
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


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_so_and_leaves_earlier_results(forks, path, stop):
    out = forks.folder / f"stopped{stop}"
    few = ("--n-metacells", 6, "--max-epochs", 3, "--accelerator", "cpu")
    words = ("infer", path, "--out", out, *few)
    status, n_changes, _, said = forks(*words)
    assert status == 0, said
    before, n_kept = {of: of.read_bytes() for of in out.rglob("*") if of.is_file()}, 0
    for change in (1, n_changes // 4, n_changes // 2, 3 * n_changes // 4):
        stopped = {"kill_before": change, "signal": stop}
        status, *_, said = forks(*words, "--seed", 1, "--overwrite", **stopped)
        assert status == 130, said
        assert "Traceback" not in said
        assert said.endswith("Error: Stopped before all results were written.\n")
        if "Everything but the report is in" not in said:
            left = [of for of in out.rglob("*") if of.is_file() and "checkpoints" not in of.parts]
            assert {of: of.read_bytes() for of in left} == before
            n_kept += 1
    assert n_kept > 1
    shutil.rmtree(out)
