"""Words of the command line, signals, and what is loaded when."""

import os
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
