"""The directory of results: there as a whole, or not at all."""

import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ._errors import BadInput

_MADE_BY_DESKTOPS = {".DS_Store", "desktop.ini"}


def check_output(
    out: Path, *, overwrite: bool, results: Collection[str], inputs: Collection[Path]
) -> None:
    """Refuse, before any work, a directory that results cannot or must not be written to.

    What only the file system knows, such as which names are too long, is found by making a
    directory beside it, and removing that again.

    Parameters
    ----------
    out
        Directory to be made.
    overwrite
        Whether an earlier result may be replaced.
    results
        Names of what the command writes: a directory that holds anything else is never replaced.
    inputs
        Files that the command reads.
    """
    with _bad_output(out):
        if out.exists():
            _check_replaceable(out, overwrite, results)
        for path in inputs:
            if path.resolve().is_relative_to(out.resolve()):
                raise BadInput(
                    f"{path} lies in {out}, which would be replaced: choose another --out."
                )
        parent = _nearest_directory(out)
        if not parent.is_dir():
            raise BadInput(f"{out} cannot be made: {parent} is a file.")
        _make_staging(out, parent).rmdir()


@contextmanager
def staged(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Directory to write results in, which becomes ``out`` if all goes well.

    Until then it is a hidden sibling; if anything fails it goes, and an earlier ``out`` stays.
    """
    out = out.resolve()
    with _bad_output(out):
        staging = _make_staging(out, _nearest_directory(out))
    try:
        yield staging
        with _bad_output(out):
            _put_in_place(staging, out, overwrite)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _bad_output(out: Path) -> Iterator[None]:
    """Regard what the file system refuses as bad input."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"{out} cannot be made ({error.strerror or error}): choose another --out."
        ) from error


def _make_staging(out: Path, parent: Path) -> Path:
    staging = _hidden_sibling(out, parent)
    staging.mkdir()
    return staging


def _check_replaceable(out: Path, overwrite: bool, results: Collection[str]) -> None:
    if not out.is_dir():
        raise BadInput(f"{out} is a file: choose another name for --out.")
    if not overwrite:
        raise BadInput(f"{out} exists: choose another --out, or pass --overwrite to replace it.")
    others = {path.name for path in out.iterdir()} - set(results) - _MADE_BY_DESKTOPS
    if others:
        raise BadInput(
            f"{out} holds more than results of this command, e.g. {min(others)!r}, and is not "
            "replaced: choose another --out."
        )


def _nearest_directory(out: Path) -> Path:
    """Closest ancestor that exists: the same file system, so that renaming is one step."""
    return next(parent for parent in out.resolve().parents if parent.exists())


def _hidden_sibling(out: Path, parent: Path) -> Path:
    return parent / f".{out.name}-{secrets.token_hex(4)}"


def _put_in_place(staging: Path, out: Path, overwrite: bool) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if not (overwrite and out.exists()):
        staging.rename(out)
        return
    earlier = _hidden_sibling(out, out.parent)
    out.rename(earlier)
    try:
        staging.rename(out)
    except OSError:
        earlier.rename(out)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
