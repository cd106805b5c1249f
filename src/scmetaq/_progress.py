"""What is under way besides training, in scvi-tools' bars: how far it is, and memory."""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

from rich.console import Console
from scvi import settings
from scvi.utils import track

_PATIENCE = 0.5  # seconds after which a bar is shown of what is not done


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
    if not _is_seen():
        yield from parts
        return
    with _line(description, total=n_parts, delay=_PATIENCE) as line:
        for part in parts:
            yield part
            line.set_postfix_str(_memory(), refresh=False)
            line.update()


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show what is done inside, where nobody knows how long it takes."""
    shown = {"bar_format": "{desc}{postfix}", "postfix": _memory()}
    with _line(description, **shown) if _is_seen() else nullcontext():
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


def _is_seen() -> bool:
    """Whether somebody sees what is written to stderr, and INFO is logged."""
    console = Console(stderr=True)
    is_shown = console.is_terminal or console.is_jupyter
    return is_shown and settings.verbosity <= logging.INFO


def _line(description: str, **options: Any) -> Any:
    """A line that goes when it is done, on stderr: results of commands go to stdout."""
    with redirect_stdout(sys.stderr):
        return track(None, description, style="tqdm", leave=False, **options)


def _memory() -> str:
    return "" if (peak := peak_memory()) is None else f"{peak:.1f} GB"
