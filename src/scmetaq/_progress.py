"""Progress bars of what is not training, which has scvi-tools' own."""

import logging
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import track
from scvi import settings


def with_progress[T](parts: Sequence[T], description: str, *, at_least: int) -> Iterable[T]:
    """The parts one by one, with a bar and an estimate of the time left on stderr.

    Parameters
    ----------
    parts
        What is worked through.
    description
        What is being done.
    at_least
        Number of parts from which it takes so long that a bar is wanted. There is none without
        somebody to see it, or with ``scvi.settings.verbosity`` above ``INFO``.
    """
    console = Console(stderr=True)
    is_seen = (console.is_terminal or console.is_jupyter) and settings.verbosity <= logging.INFO
    if len(parts) < at_least or not is_seen:
        return parts
    return track(parts, description=description, console=console)
