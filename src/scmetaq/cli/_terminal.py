"""What a command says: progress and errors on stderr, results on stdout."""

import io
import logging
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from scmetaq._errors import InputError, printable, reason

OURS = 1
BAD_INPUT = 2
STOPPED = 130
NOTE = "[yellow]Note:[/]"
ERROR = "[bold red]Error:[/]"

CELLS_PER_METACELL = 50

_PACKAGE = Path(__file__).parents[1]
_LAYER = "Name the layer with the raw counts with --layer."
_COLUMN = "Name another column with {}, or leave it out."
REMEDIES = {
    **dict.fromkeys(["layer", "rna_layer", "adt_layer", "atac_layer"], _LAYER),
    **dict.fromkeys(["labels", "labels_key"], _COLUMN.format("--labels-key")),
    **dict.fromkeys(["conditions", "batch_key"], _COLUMN.format("--batch-key")),
    "n_metacells": "Choose another number with --n-metacells, or leave it out for one per "
    f"{CELLS_PER_METACELL} cells.",
    **{of: _COLUMN.format(f"--{of.replace('_', '-')}") for of in ("features", "exclude_features")},
    "use_rep": "Name another entry of obsm with --use-rep, or leave it out.",
    "label_weight": "Name labels with --labels-key and a weight of zero or more with "
    "--label-weight.",
    "file_key": "Choose another name with --file-key.",
    "categorical_covariate_keys": _COLUMN.format("--covariate-key"),
    "modalities": "Name the modalities in the file rna, adt (or prot) and atac, one of each, or "
    "choose them in Python with MetaQModel.setup_mudata.",
}
"""What to do in terms of the command, by the argument of a public function to blame."""
_OPTIONS = {
    **dict.fromkeys(["layer", "rna_layer", "adt_layer", "atac_layer"], "--layer"),
    "modality": "--modality",
}
"""Options whose value that would do is known, by argument."""
_LEFT_OUT = re.compile(r"leave \w*layer out")
_OF_PYTHON = re.compile(r"\b(adata|mdata|query|model)\b")


def plain(message: object, remedies: Mapping[str, str]) -> str:
    """One line for the terminal: what is wrong, and what to do in terms of the command."""
    text = str(message)
    if isinstance(message, InputError):
        argument, remedy = message.argument or "", message.fix
        if argument in _OPTIONS and message.value is not None:
            remedy = f"Pass {_OPTIONS[argument]} {shlex.quote(message.value)}."
        elif argument in remedies and not (argument in _OPTIONS and remedy):
            remedy = remedies[argument]
        elif _LEFT_OUT.search(remedy):
            remedy = _LEFT_OUT.sub("leave --layer out", remedy)
        elif _OF_PYTHON.search(remedy):
            remedy = f"In Python: {remedy}"
        text = f"{message.problem} {remedy}"
    return " ".join(text.split())


@contextmanager
def exit_status(remedies: Mapping[str, str], *, debug: bool) -> Iterator[None]:
    """Turn whatever goes wrong inside into one line on stderr and an exit status."""
    try:
        yield
    except SystemExit as leaving:
        # how Lightning answers Ctrl-C during training
        if isinstance(leaving.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from leaving
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        notes = getattr(error, "__notes__", [])
        if isinstance(error, InputError):
            status, text = BAD_INPUT, plain(error, remedies)
        else:
            status, text = OURS, f"scmetaq failed with {type(error).__name__}: {reason(error)}."
            notes = notes if debug else [*notes, "Run it again with --debug for the traceback."]
        say(" ".join([text, *notes]), ERROR)
        raise typer.Exit(status) from error


@contextmanager
def bad_input() -> Iterator[None]:
    """Regard any refusal of a value inside as bad input."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        # str of a KeyError is quoted and escaped
        raise InputError(str(error.args[0] if len(error.args) == 1 else error)) from error


@contextmanager
def quiet(note: Callable[[object], None], *, debug: bool) -> Iterator[None]:
    """Hold back what libraries print, log and warn of; ``note`` gets our own warnings."""

    def show(message: Any, category: type[Warning], filename: str, *args: Any) -> None:
        # our functions address warnings to their caller, that is to this package
        if issubclass(category, UserWarning) and Path(filename).is_relative_to(_PACKAGE):
            note(message)
        elif debug:
            shown(message, category, filename, *args)

    shown, disabled = warnings.showwarning, logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(sys.stderr if debug else io.StringIO()):
        warnings.simplefilter("default" if debug else "always")
        warnings.showwarning = show  # type: ignore[assignment]
        logging.disable(disabled if debug else logging.INFO)
        try:
            yield
        finally:
            logging.disable(disabled)


def say(message: str, before: str = "") -> None:
    """Print one line to stderr, as long as it is, after a word such as ``NOTE``."""
    console = Console(stderr=True, highlight=False)
    if before:
        console.print(before, end=" ")
    console.print(printable(message), markup=False, soft_wrap=True)


def show_results(
    rows: Iterable[tuple[str, ...]], out: Path, descriptions: Mapping[str, str]
) -> None:
    """Print rows of name, value and direction, and which of the files there are now."""
    columns = Column(style="bold"), Column(justify="right"), Column(style="dim")
    table = Table(*columns, box=None, pad_edge=False, show_header=False)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    files = {name: text for name, text in descriptions.items() if (out / name).exists()}
    width = max(map(len, files))
    console = Console(highlight=False)
    console.print()
    console.print(table)
    console.print()
    folder = f"{out}{'' if str(out).endswith('/') else '/'}"
    console.print(f"Written to {printable(folder)}", markup=False)
    for name, text in files.items():
        console.print(f"  {name.ljust(width)}  {text}", markup=False, soft_wrap=True)
