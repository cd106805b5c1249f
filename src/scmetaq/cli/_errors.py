"""What can go wrong, and the exit status that tells it."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

OURS = 1
BAD_INPUT = 2
STOPPED = 130

_USUAL_NAMES = (
    "Name the modalities in the file rna, adt (or prot) and atac, one of each, or choose them in "
    "Python with MetaQModel.setup_mudata."
)

_OPTIONS = {
    "labels": "--labels-key",
    "labels_key": "--labels-key",
    "conditions": "--batch-key",
    "batch_key": "--batch-key",
    "layer": "--layer",
}
"""Option by the argument of a public function that it is passed to."""


class BadInput(Exception):  # noqa: N818 - the user's to mend, not an error of the program
    """Input that the command cannot use; the message says why and what to do."""


@contextmanager
def exit_status(*, debug: bool) -> Iterator[None]:
    """Turn whatever goes wrong inside into one line on stderr and an exit status.

    Parameters
    ----------
    debug
        Whether to show the traceback too.
    """
    try:
        yield
    except BadInput as error:
        _show_traceback(debug)
        say_error(str(error))
        raise typer.Exit(BAD_INPUT) from error
    except typer.Exit:
        raise
    except SystemExit as leaving:
        # how Lightning answers Ctrl-C during training
        if isinstance(leaving.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from leaving
        raise
    except Exception as error:
        _show_traceback(debug)
        said = [f"scmetaq failed with {type(error).__name__}: {_first_line(error)}."]
        said += getattr(error, "__notes__", [])
        said += [] if debug else ["Run it again with --debug for the traceback."]
        say_error(" ".join(said))
        raise typer.Exit(OURS) from error


@contextmanager
def bad_input(doing: str = "") -> Iterator[None]:
    """Regard what checks of user input raise inside as bad input.

    Parameters
    ----------
    doing
        Beginning of the message, where the error alone would not say what it is about.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(doing + in_words_of_the_command(_message(error))) from error


@contextmanager
def report_of(out: Path) -> Iterator[Path]:
    """File of the report: if it cannot be written, the results stay, and the error says so."""
    kept = f"Everything but the report is in {out}."
    try:
        yield out / "report.html"
    except KeyboardInterrupt:
        say_error(kept)
        raise
    except Exception as error:
        error.add_note(kept)
        raise


def say_error(message: str) -> None:
    """Print one line to stderr, as long as it is."""
    console = Console(stderr=True, highlight=False)
    console.print("[bold red]Error:[/]", end=" ")
    console.print(message, markup=False, soft_wrap=True)


def in_words_of_the_command(message: str) -> str:
    """Rewrite the remedies of the Python interface as options of the command."""
    message = re.sub(r"\bn_metacells=(\d+)", r"--n-metacells \1", message)
    message = re.sub(r"\b(?:with|by) `?layer=(?:\.{3})?`?", "with --layer", message)
    message = re.sub(r"\bwith rna_layer=, adt_layer= or atac_layer=", "with --layer", message)
    for argument, option in _OPTIONS.items():
        message = message.replace(f"`{argument}`", option)
    message = re.sub(r"Say which is (?:which|meant)\b.*", _USUAL_NAMES, message)
    return " ".join(message.split())


def _message(error: Exception) -> str:
    """Text of an error: of a ``KeyError``, ``str`` would give the quoted and escaped form."""
    if isinstance(error, KeyError) and len(error.args) == 1:
        return str(error.args[0])
    return str(error)


def _first_line(error: Exception) -> str:
    lines = _message(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else "no message"


def _show_traceback(debug: bool) -> None:
    if debug:
        traceback.print_exc()
