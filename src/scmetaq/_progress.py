"""Progress bars of what is not training, which has scvi-tools' own."""

import logging
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import track
from scvi import settings


def with_progress[T](parts: Sequence[T], description: str, *, at_least: int) -> Iterable[T]:
    """The parts, with a bar on stderr if they are many, somebody sees it and INFO is logged."""
    console = Console(stderr=True)
    is_seen = (console.is_terminal or console.is_jupyter) and settings.verbosity <= logging.INFO
    if len(parts) < at_least or not is_seen:
        return parts
    return track(parts, description=description, console=console)
