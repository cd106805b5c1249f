"""What is under way besides training, which has scvi-tools' own bar: how far it is, and memory.

Not by :func:`scvi.utils.track`: it writes to stdout, where results of commands go, and can show
neither memory nor what cannot be counted.
"""

import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from scvi import settings

_PATIENCE = 0.5
"""Seconds after which a bar is shown of what is not done."""


class _Memory(ProgressColumn):
    """Most memory that the process has taken so far."""

    def render(self, task: Task) -> Text:
        return Text("" if (peak := peak_memory()) is None else f"{peak:.1f} GB")


def peak_memory() -> float | None:
    """Most memory that the process has taken so far, in GB; None where that is not known."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def with_progress[T](parts: Iterable[T], description: str, n_parts: int) -> Iterator[T]:
    """Yield the parts and show how far they are, with the time left, if it takes a while."""
    line, start = _line(BarColumn(), TimeRemainingColumn()), time.monotonic()
    task = line.add_task(description, total=n_parts)
    try:
        for part in parts:
            yield part
            line.advance(task)
            if not line.live.is_started and time.monotonic() - start > _PATIENCE:
                line.start()
    finally:
        line.stop()


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show what is done inside, and for how long, where nobody knows how long it takes."""
    with _line(SpinnerColumn(), TimeElapsedColumn()) as line:
        line.add_task(description, total=None)
        yield


@contextmanager
def only_warnings(library: str) -> Iterator[None]:
    """Keep a library from saying what it says of every run; DEBUG in scvi-tools shows all."""
    logger = logging.getLogger(library)
    before = logger.level
    if settings.verbosity > logging.DEBUG:
        logger.setLevel(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            # Lightning of torch, to itself
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            yield
    finally:
        logger.setLevel(before)


def _line(*columns: ProgressColumn) -> Progress:
    """A line on stderr that goes when it is done, if somebody sees it and INFO is logged."""
    console = Console(stderr=True)
    is_seen = (console.is_terminal or console.is_jupyter) and settings.verbosity <= logging.INFO
    text = TextColumn("{task.description}")
    shown = (text, *columns, _Memory())
    return Progress(*shown, console=console, transient=True, disable=not is_seen)
