"""The directory of results: there as a whole, or not at all; and code to go on with."""

from __future__ import annotations

import json
import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scmetaq._errors import InputError

from ._terminal import ERROR, say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path


_MADE_BY_DESKTOPS = {".DS_Store", "desktop.ini"}


def check_output(
    out: Path, *, overwrite: bool, results: Collection[str], inputs: Collection[Path]
) -> None:
    """Refuse, before any work, a directory that results cannot or must not be written to.

    A directory that holds anything but ``results`` is never replaced, nor one with an input. What
    only the file system knows, such as which names are too long, is found by making a directory
    next to it, and removing that again.
    """
    with _bad_output(out):
        if out.exists():
            _check_replaceable(out, overwrite, results)
        for path in inputs:
            if path.resolve().is_relative_to(out.resolve()):
                raise InputError(
                    f"{path} lies in {out}, which would be replaced: choose another --out."
                )
        parent = _nearest_directory(out)
        if not parent.is_dir():
            raise InputError(f"{out} cannot be made: {parent} is a file.")
        _make_staging(out).rmdir()


@contextmanager
def staged(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Directory to write results in, which becomes ``out`` if all goes well.

    Until then it is a hidden sibling; if anything fails it goes, and an earlier ``out`` stays.
    """
    out = out.resolve()
    with _bad_output(out):
        staging = _make_staging(out)
    try:
        yield staging
        with _bad_output(out):
            _put_in_place(staging, out, overwrite)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def report_of(out: Path) -> Iterator[Path]:
    """File of the report: if it cannot be written, the results stay, and the error says so."""
    kept = f"Everything but the report is in {out}."
    try:
        yield out / "report.html"
    except KeyboardInterrupt:
        say(kept, ERROR)
        raise
    except Exception as error:
        error.add_note(kept)
        raise


@contextmanager
def _bad_output(out: Path) -> Iterator[None]:
    """Regard what the file system refuses as bad input."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{out} cannot be made ({error.strerror or error}): choose another --out."
        ) from error


def _check_replaceable(out: Path, overwrite: bool, results: Collection[str]) -> None:
    if not out.is_dir():
        raise InputError(f"{out} is a file: choose another name for --out.")
    if not overwrite:
        raise InputError(f"{out} exists: choose another --out, or pass --overwrite to replace it.")
    others = {path.name for path in out.iterdir()} - set(results) - _MADE_BY_DESKTOPS
    if others:
        raise InputError(
            f"{out} holds more than results of this command, e.g. {min(others)!r}, and is not "
            "replaced: choose another --out."
        )


def _make_staging(out: Path) -> Path:
    staging = _hidden_sibling(out, _nearest_directory(out))
    staging.mkdir()
    return staging


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


def write_model(folder: Path, model: Any, assignments: Any) -> None:
    """Write a model, its metacells and the assignments."""
    metacells = model.get_metacells()
    if hasattr(metacells, "mod"):
        metacells.write_h5mu(folder / "metacells.h5mu", compression="gzip")
    else:
        metacells.write_h5ad(folder / "metacells.h5ad", compression="gzip")
    assignments.to_csv(folder / "assignments.csv", index_label="barcode")
    model.save(str(folder / "model"))


def code_after(command: str, out: Any, files: Collection[str], **facts: Any) -> str:
    """Python code to go on with after a command, for the very files that it wrote."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    options: Any = {"undefined": StrictUndefined, "trim_blocks": True}
    code = Environment(loader=PackageLoader("scmetaq.cli"), **options)
    paths = {file.split(".")[0]: json.dumps((out / file).as_posix()) for file in files}
    template = code.get_template(f"after_{command}.py.j2")
    return template.render(quoted=json.dumps, list=list, **paths, **facts) + "\n"
