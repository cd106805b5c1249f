"""Refusal of folders that hold no readable model of a class."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

from scmetaq._errors import InputValueError

_OF_OTHER_CONTENT = (AttributeError, IndexError, KeyError, RuntimeError, UnpicklingError)
"""What reading a file without the parts of a model raises."""


def check_model_file(folder: Path, name: str, options: dict[str, Any]) -> None:
    """Refuse what is no whole file of a model; one that is to be downloaded may be missing."""
    file = folder / name
    if not file.exists():
        if options.get("backup_url") is None:
            problem = f"Expected a saved model in {folder}, found no {name} there."
            raise InputValueError(problem, "Name the folder that save() wrote.")
        return
    try:
        with ZipFile(file) as archive:
            is_whole = archive.testzip() is None
    except BadZipFile:
        is_whole = False
    if not is_whole:
        problem = f"{file} cannot be read: it is cut short, damaged or no saved model."
        raise InputValueError(problem, "Save the model again, or copy the whole folder.")


@contextmanager
def refusing_others(model: str, folder: str | Path, *, has_cells: bool) -> Iterator[None]:
    """Turn what scvi-tools raises on models of another class or version into one form.

    Where cells are loaded too, other errors are about them.
    """
    try:
        yield
    except ValueError as error:
        if "different class" not in str(error):
            raise
        problem = f"Expected a model of {model} in {folder}, found one of a different class."
        raise InputValueError(problem, "Load it with the class that it was made with.") from error
    except _OF_OTHER_CONTENT as error:
        is_other = isinstance(error, RuntimeError) and "state_dict" not in str(error)
        if has_cells or is_other:
            raise
        raise InputValueError(
            f"The model in {folder} cannot be read ({str(error).splitlines()[0]}): it is no saved "
            "model, or one of another version of scmetaq.",
            "Train and save it again.",
        ) from error
