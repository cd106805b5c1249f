"""Only what concerns the user reaches the terminal."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ._errors import in_words_of_the_command

_PACKAGE = Path(__file__).parents[1]


@contextmanager
def quiet(on_note: Callable[[str], None], *, debug: bool = False) -> Iterator[list[str]]:
    """Hold back the chatter of libraries, and hand over the warnings that are for the user.

    Parameters
    ----------
    on_note
        Called with each such warning as it comes.
    debug
        Whether to let everything through.

    Yields
    ------
    The warnings for the user so far.
    """
    notes: list[str] = []

    def show(message: Any, category: type[Warning], filename: str, *args: Any) -> None:
        # our functions address warnings to their caller, that is to this package
        is_ours = issubclass(category, UserWarning) and Path(filename).is_relative_to(_PACKAGE)
        note = in_words_of_the_command(str(message))
        if is_ours and note not in notes:
            notes.append(note)
            on_note(note)
        elif debug:
            shown(message, category, filename, *args)

    shown, disabled = warnings.showwarning, logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("default" if debug else "always")
        warnings.showwarning = show  # type: ignore[assignment]
        logging.disable(disabled if debug else logging.INFO)
        try:
            yield notes
        finally:
            logging.disable(disabled)
