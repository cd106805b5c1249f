"""Errors and notes in words of the command."""

import pytest

from scmetaq._errors import InputError, InputValueError
from scmetaq.cli._terminal import REMEDIES, bad_input, plain, say, show_results


def test_the_remedy_is_that_of_the_command_and_key_errors_read_like_sentences():
    error = InputValueError("Found\nnothing.", "Pass `layer=`.", "labels_key")
    assert plain(error, REMEDIES) == f"Found nothing. {REMEDIES['labels_key']}"
    assert plain(error, {}) == "Found nothing. Pass `layer=`."
    error = InputValueError("Found nothing.", 'layer="raw counts".', "layer", "raw counts")
    assert plain(error, REMEDIES) == "Found nothing. Pass --layer 'raw counts'."
    error = InputValueError("Found nothing.", "adata = adata.raw.to_adata().", "layer")
    assert plain(error, REMEDIES) == "Found nothing. In Python: adata = adata.raw.to_adata()."
    assert plain(InputValueError("Found nothing.", "Fix it."), REMEDIES) == "Found nothing. Fix it."
    assert plain(ValueError("as it is"), REMEDIES) == "as it is"
    with pytest.raises(InputError, match=r"^no 'a' and \"b\" here$"), bad_input():
        raise KeyError("no 'a' and \"b\" here")


def test_what_terminals_obey_is_escaped(capsys):
    for text in ("a\x1b[31mb", "a\x9b2Jb", "a\x07b", "a\u202eb", "a\rb", "a\x7fb"):
        say(f"Found {text}.", "[bold]Note:[/]")
        shown = capsys.readouterr().err.removesuffix("\n")
        assert shown.isprintable(), text
        assert "a\\" in shown
        assert str(InputValueError(f"Found {text}.")).isprintable()
    say("Zelltyp é☃ 细胞 [red]x[/]")
    assert capsys.readouterr().err == "Zelltyp é☃ 细胞 [red]x[/]\n"


def test_rows_of_results_are_shown_as_they_are(capsys, tmp_path):
    (tmp_path / "x.csv").touch()
    show_results([("cells of unknown [red]\x1b]0;x", "1")], tmp_path, {"x.csv": "numbers"})
    assert "[red]\\x1b]0;x" in capsys.readouterr().out


def test_debug_shows_the_traceback_and_notes_the_warnings(run, path, tmp_path, untrained, cells):
    for words, status in (((), 1), (("--layer", "missing"), 2)):
        outcome = run("infer", path, "--out", tmp_path / "out", "--debug", *words)
        assert outcome.status == status
        assert "Traceback" in outcome.err
    silent = cells.copy()
    silent.X[:, 0] = 0
    silent.write_h5ad(tmp_path / "silent.h5ad")
    outcome = run("infer", tmp_path / "silent.h5ad", "--out", tmp_path / "out")
    (note,) = [line for line in outcome.err.splitlines() if line.startswith("Note: ")]
    assert f"1 of {cells.n_vars} features" in note
