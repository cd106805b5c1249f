import logging

import pytest
import scvi
from rich.console import Console

from scmetaq._progress import with_progress


@pytest.mark.parametrize(
    ("n_parts", "is_terminal", "verbosity", "shows"),
    [
        (5, True, logging.INFO, True),
        (4, True, logging.INFO, False),  # soon done
        (5, False, logging.INFO, False),
        (5, True, logging.WARNING, False),  # told to be quiet
    ],
)
def test_a_bar_where_somebody_sees_it(monkeypatch, capsys, n_parts, is_terminal, verbosity, shows):
    monkeypatch.setattr(Console, "is_terminal", is_terminal)
    monkeypatch.setattr(scvi.settings, "verbosity", verbosity)
    parts = range(n_parts)
    assert list(with_progress(parts, "Counting sheep", at_least=5)) == list(parts)
    shown = capsys.readouterr()
    assert ("Counting sheep" in shown.err) == bool(shown.err) == shows
    assert shown.out == ""
