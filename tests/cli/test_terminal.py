"""Errors and notes in words of the command."""

import pytest

from scmetaq._errors import InputError, InputValueError
from scmetaq.cli._terminal import REMEDIES, bad_input, plain


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
