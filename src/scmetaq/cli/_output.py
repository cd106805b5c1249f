"""Where results go: they are there as a whole or not at all."""

import errno
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from scmetaq._errors import InputError
from scmetaq._files import remove, write_whole

from ._terminal import NOTE, say

CHECKPOINTS, REPORT = "checkpoints", "report.html"
_MADE_BY_DESKTOPS = {".DS_Store", "desktop.ini"}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_IN_WORDS = ("No space left", "File too large", "PytorchStreamWriter", "unexpected pos")
"""What libraries say that hide the number of the error."""


class Output:
    """Directory of results, which are written next to it and put in its place as a whole."""

    def __init__(self, out: Path, results: Collection[str]):
        self.shown, self.out, self._known = out, out.resolve(), set(results)
        # in the closest ancestor that exists: the same file system, so that renaming is one step
        with self._refusing():
            parent = next((parent for parent in self.out.parents if parent.exists()), self.out)
        self._work = self._hidden = parent / f".{self.out.name}.scmetaq-partial"
        self.is_in_place = False  # whether all results but the report are in `out`

    def check(self, *, overwrite: bool, inputs: Collection[Path]) -> None:
        """Refuse, before any work, a directory that results cannot or must not be written to.

        A directory that holds anything but results is never replaced, nor one with an input. What
        only the file system knows, such as which names are too long, is found by making a directory
        next to it. What a killed run has left there is removed or put back.
        """
        with self._refusing():
            recover(self.out)
            remove(self._hidden)
            if self.out.exists():
                self._check_replaceable(overwrite=overwrite)
            for path in inputs:
                if path.resolve().is_relative_to(self.out):
                    problem = f"{path} lies in {self.shown}, which would be replaced:"
                    raise InputError(f"{problem} choose another --out.")
            self._hidden.mkdir()
            self._hidden.rmdir()

    @property
    def last_stage(self) -> str:
        """The last stage of this run that is finished and can be gone on after; empty if none."""
        return ""

    @property
    def is_complete(self) -> bool:
        """Whether all results of this very run are there already."""
        return False

    @contextmanager
    def working(self) -> Iterator[None]:
        """Leave what is whole, whatever happens inside, and say what to do with it."""
        try:
            yield
        except Exception as error:
            failure = self._full(error) or error
            if left := self._left(failure):
                failure.add_note(left)
            self._clean_up()
            if failure is error:
                raise
            raise failure from error
        except BaseException as stop:
            if left := self._left(stop):
                say(left, NOTE)
            self._clean_up()
            raise
        self._clean_up(is_done=True)

    def write(self, name: str, write: Callable[[Path], object]) -> Path:
        """Write a result, a file or a folder, unless it is there."""
        folder = self.out if self.is_in_place else self._work / "results"
        return self._write_whole(folder / name, write)

    def put_in_place(self) -> None:
        """Replace ``out`` by the results."""
        if self.is_in_place:
            return
        earlier, results = _earlier(self.out), self._work / "results"
        with self._refusing():
            self.out.parent.mkdir(parents=True, exist_ok=True)
            try:
                if self.out.exists():
                    self.out.rename(earlier)
                    if results.is_relative_to(self.out):
                        results = earlier / results.relative_to(self.out)
                results.rename(self.out)
            finally:
                recover(self.out)
        self.is_in_place = True

    def write_report(self, write: Callable[[Path], object]) -> None:
        """Write the report and put it next to the other results."""
        write(self._work / REPORT)
        (self._work / REPORT).replace(self.out / REPORT)

    def _check_replaceable(self, *, overwrite: bool) -> None:
        if not self.out.is_dir():
            raise InputError(f"{self.shown} is a file: choose another name for --out.")
        if not overwrite:
            problem = f"{self.shown} exists: choose another --out, or pass --overwrite to replace"
            raise InputError(f"{problem} it.")
        others = {path.name for path in self.out.iterdir()} - self._known - _MADE_BY_DESKTOPS
        if others:
            self._refuse_others(min(others))

    def _refuse_others(self, name: str) -> NoReturn:
        problem = f"{self.shown} holds more than results of this command, e.g. {name!r}, and is not"
        raise InputError(f"{problem} replaced: choose another --out.")

    def _write_whole(self, path: Path, write: Callable[[Path], object]) -> Path:
        """Write a file or folder, unless it is there."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, write)
        return path

    def _left(self, error: BaseException) -> str:
        """What a run that fails leaves, and how to go on."""
        return f"Everything but the report is in {self.shown}." if self.is_in_place else ""

    def _clean_up(self, *, is_done: bool = False) -> None:
        remove(self._work)

    def _full(self, error: BaseException | None) -> InputError | None:
        """What to say of a full disk, if this is the reason of an error."""
        while error is not None:
            is_full = isinstance(error, OSError) and error.errno in _FULL
            if is_full or any(words in str(error) for words in _FULL_IN_WORDS):
                problem = f"There is no space left for {self.shown} or temporary files:"
                return InputError(f"{problem} free some, and run it again.")
            error = error.__cause__ or error.__context__
        return None

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Regard what the file system refuses as bad input."""
        try:
            yield
        except OSError as error:
            if full := self._full(error):
                raise full from error
            problem = f"{self.shown} cannot be made ({error.strerror or error}):"
            raise InputError(f"{problem} choose another --out.") from error


def recover(out: Path) -> None:
    """Finish the replacement of a directory, or undo it where its successor is not there yet."""
    earlier = _earlier(out)
    if not earlier.exists():
        return
    if not out.exists():
        earlier.rename(out)
        return
    with suppress(FileNotFoundError):  # what an interrupted run goes on with stays
        (earlier / CHECKPOINTS).rename(out / CHECKPOINTS)
    remove(earlier)


def _earlier(out: Path) -> Path:
    """Where a directory is while another takes its place."""
    return out.with_name(f".{out.name}.scmetaq-earlier")
