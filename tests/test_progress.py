import logging

import pytest
import scvi
from rich.console import Console

from scmetaq import _progress
from scmetaq._progress import peak_memory, with_progress, working


@pytest.fixture(params=[(True, logging.INFO), (False, logging.INFO), (True, logging.WARNING)])
def is_seen(request, monkeypatch):
    """Whether somebody sees it: in a terminal, unless told to be quiet."""
    is_terminal, verbosity = request.param
    monkeypatch.setattr(Console, "is_terminal", is_terminal)
    monkeypatch.setattr(scvi.settings, "verbosity", verbosity)
    return request.param == (True, logging.INFO)


@pytest.mark.parametrize("patience", [0, 60])
def test_a_bar_of_what_takes_a_while(is_seen, patience, monkeypatch, capsys):
    monkeypatch.setattr(_progress, "_PATIENCE", patience)
    parts = range(5)
    assert list(with_progress(parts, "Counting sheep", 5)) == list(parts)
    shown = capsys.readouterr()
    assert ("Counting sheep" in shown.err) == bool(shown.err) == (is_seen and not patience)
    assert shown.out == ""


def test_a_line_of_what_cannot_be_counted(is_seen, capsys):
    with working("Looking for sheep"):
        pass
    shown = capsys.readouterr()
    assert ("Looking for sheep" in shown.err) == (" GB" in shown.err) == is_seen
    assert shown.out == ""


def test_bars_show_how_far_it_is_and_end_with_those_who_stop_counting(monkeypatch, capsys):
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setattr(scvi.settings, "verbosity", logging.INFO)
    monkeypatch.setattr(_progress, "_PATIENCE", 0)
    lines, made = [], _progress._line
    monkeypatch.setattr(
        _progress, "_line", lambda *a, **k: lines.append(made(*a, **k)) or lines[-1]
    )
    counted = with_progress(iter(range(10)), "Counting sheep", 10)
    assert [next(counted), next(counted)] == [0, 1]
    assert (lines[0].n, lines[0].total) == (1, 10)
    assert lines[0].postfix.endswith(" GB")
    counted.close()
    assert lines[0].disable
    assert capsys.readouterr().err.endswith("\r")  # wiped


def test_the_peak_of_memory_is_that_of_the_process():
    before = peak_memory()
    held = bytearray(300_000_000)
    held[::4096] = b"x" * len(held[::4096])
    assert before > 0.05
    assert peak_memory() >= before
    assert peak_memory() > 0.3
