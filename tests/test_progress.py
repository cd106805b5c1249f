import logging

import pytest
import scvi
from rich.console import Console

from scmetaq._progress import with_progress


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setattr(scvi.settings, "verbosity", logging.INFO)


def run(n_parts=5, at_least=5):
    return list(with_progress(range(n_parts), "Counting sheep", at_least=at_least))


def test_a_bar_where_somebody_sees_it(terminal, capsys):
    assert run() == [0, 1, 2, 3, 4]
    shown = capsys.readouterr()
    assert "Counting sheep" in shown.err
    assert shown.out == ""


def test_no_bar_for_what_is_soon_done(terminal, capsys):
    assert run(4) == [0, 1, 2, 3]
    assert capsys.readouterr().err == ""


def test_no_bar_without_a_terminal(capsys):
    assert run() == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_no_bar_if_told_to_be_quiet(terminal, monkeypatch, capsys):
    monkeypatch.setattr(scvi.settings, "verbosity", logging.WARNING)
    assert run() == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""
