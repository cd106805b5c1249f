"""Finished stages of a run, from which it goes on after it was interrupted."""

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from scmetaq._errors import InputError, reason
from scmetaq._files import remove

from ._output import CHECKPOINTS, REPORT, Output

RUN = "run.json"
_FILES = {
    "statistics": "statistics.npz",
    "codes": "codes.npz",
    "training": "training.npz",
    "prototypes": "prototypes.npz",
    "assignment": "results/assignments.csv",
    "aggregation": "results/metacells.h5*",
}
"""File of each stage among the checkpoints, in the order of the stages."""
_OURS = {RUN, REPORT, "results", *_FILES.values()}
_START_AGAIN = "Pass --overwrite, without --resume, to start again."


class _CannotGoOnError(InputError):
    """A run has to start again."""

    def __init__(self, problem: str):
        super().__init__(problem, _START_AGAIN)


class Checkpoints(Output):
    """Output of a run that leaves every finished stage in ``out/checkpoints`` until it is over.

    Of stages that are arrays it is a mapping. Options and inputs decide what the results are: a
    run goes on with the same only. They are in ``run.json``, of the results too.
    """

    def __init__(
        self,
        out: Path,
        results: Collection[str],
        options: dict[str, Any],
        inputs: Sequence[Path],
        *,
        resume: bool,
        notes: list[str],
        note: Callable[[object], None],
    ):
        super().__init__(out, results)
        self._inputs, self._resume, self._notes, self._note = inputs, resume, notes, note
        self._work, self._results = self.out / CHECKPOINTS, results
        self._known.add(CHECKPOINTS)
        of_run = {"scmetaq": version("scmetaq"), "options": options, "inputs": _states(inputs)}
        self._run: dict[str, Any] = {**of_run, "started": datetime.now().astimezone().isoformat()}
        self._is_begun = False  # whether the checkpoints, if any, are those of this run

    def __contains__(self, stage: str) -> bool:
        return self._is_begun and (self._work / _FILES[stage]).exists()

    def __getitem__(self, stage: str) -> dict[str, np.ndarray]:
        path = self._work / _FILES[stage]
        try:
            with np.load(path) as found:
                arrays = dict(found)
        except (BadZipFile, EOFError, KeyError, OSError, ValueError) as error:
            problem = f"The checkpoint {path} cannot be read ({reason(error)})."
            raise _CannotGoOnError(problem) from error
        for text in arrays.pop("notes"):
            self._note(text)
        return arrays

    def __setitem__(self, stage: str, arrays: dict[str, np.ndarray]) -> None:
        all_of: dict[str, Any] = arrays | {"notes": np.array(self._notes, str)}
        self._write_whole(self._work / _FILES[stage], lambda path: np.savez(path, **all_of))

    @property
    def last_stage(self) -> str:
        """The last stage of this run that is finished and can be gone on after; empty if none."""
        if self.is_in_place:
            return list(_FILES)[-1]
        there = [name for name, file in _FILES.items() if any(self._work.glob(file))]
        return there[-1] if self._is_begun and there else ""

    @property
    def is_complete(self) -> bool:
        """Whether all results of this very run are there already, and no unfinished run."""
        names = {path.name.split(".")[0] for path in self.out.glob("*")}
        expected = {name.split(".")[0] for name in self._results}
        is_whole = expected <= names and not self._is_begun
        return self._resume and is_whole and not self._difference(_read(self.out / RUN))

    def put_in_place(self) -> None:
        """Replace ``out`` by the results."""
        self.write(RUN, self._write_run)
        super().put_in_place()

    def _check_replaceable(self, *, overwrite: bool) -> None:
        run = _read(self._work / RUN)
        is_unfinished = run is not None and any(map(any, map(self._work.glob, _FILES.values())))
        names = {path.name for path in self._work.glob("*")} - _OURS
        others = sorted(name for name in names if not name.startswith("partial-"))
        if others or self._work.is_file():
            self._refuse_others("/".join([CHECKPOINTS, *others[:1]]))
        if is_unfinished and self._resume:
            if difference := self._difference(run):
                problem = f"{self.shown} holds an unfinished run, but {difference}: repeat the"
                raise InputError(f"{problem} command as it was.", _START_AGAIN)
            self._is_begun, self._run = True, run or {}
            self.is_in_place = _read(self.out / RUN) == run
        elif is_unfinished and not overwrite:
            problem = f"{self.shown} holds an unfinished run: pass --resume to go on with it,"
            raise InputError(f"{problem} or --overwrite to start again.")
        is_empty = {path.name for path in self.out.glob("*")} <= {CHECKPOINTS}
        is_ours = self._is_begun or self.is_complete or is_empty
        super()._check_replaceable(overwrite=overwrite or (self._resume and is_ours))
        if self.is_complete:  # but its checkpoints were not all removed
            self._remove_checkpoints()

    def _write_whole(self, path: Path, write: Callable[[Path], object]) -> Path:
        if not self._is_begun:
            self._remove_checkpoints()
            self._is_begun = True
            self._write_whole(self._work / RUN, self._write_run)

        def checked(partial: Path) -> None:
            write(partial)
            if changed := self._changed(self._run["inputs"]):
                raise _CannotGoOnError(f"{changed} has changed since the run began.")

        return super()._write_whole(path, checked)

    def _write_run(self, path: Path) -> None:
        path.write_text(json.dumps(self._run, indent=1), encoding="utf-8")

    def _remove_checkpoints(self) -> None:
        """Remove them all; without the first file they are none, should this be interrupted."""
        (self._work / RUN).unlink(missing_ok=True)
        remove(self._work)

    def _left(self, error: BaseException) -> str:
        """What a run that fails leaves, and how to go on."""
        what, stage = super()._left(error), self.last_stage
        if not stage or isinstance(error, _CannotGoOnError):
            return what
        if changed := self._changed(self._run["inputs"]):
            return f"{what} {changed} has changed since the run began. {_START_AGAIN}".strip()
        how = "write it" if self.is_in_place else f"go on after {stage}"
        return f"{what} Pass --resume to {how}.".strip()

    def _clean_up(self, *, is_done: bool = False) -> None:
        if is_done or (self._is_begun and not self.last_stage):
            self._remove_checkpoints()
            with suppress(OSError):  # not empty
                self.out.rmdir()

    def _difference(self, run: dict[str, Any] | None) -> str:
        """What of another run is not as in this one; empty if all is."""
        if run is None:
            return "of unknown options"
        now = json.loads(json.dumps(self._run))
        pairs = [("scmetaq", run["scmetaq"], now["scmetaq"])]
        options = {**dict.fromkeys(run["options"]), **now["options"]}
        pairs += [(_spelled(name), run["options"].get(name), options[name]) for name in options]
        files = [", ".join(path for path, *_ in of["inputs"]) or "demo" for of in (run, now)]
        for name, before, after in [*pairs, ("INPUT", *files)]:
            if before != after:
                return f"{name} was {_shown(before)} and is {_shown(after)} now"
        changed = self._changed(run["inputs"])
        return f"{changed} has changed since" if changed else ""

    def _changed(self, before: Sequence[Any]) -> str:
        """An input that is not as it was; empty if all are."""
        pairs = zip(_states(self._inputs), before, strict=True)
        return next((now[0] for now, then in pairs if now != list(then)), "")


def _states(paths: Sequence[Path]) -> list[list[Any]]:
    """Path, number of files, size and time of the last change of files and stores."""
    found = []
    for path in paths:
        files = [of for of in path.rglob("*") if of.is_file()] if path.is_dir() else [path]
        stats = [of.stat() for of in files if of.exists()]
        last = max((of.st_mtime_ns for of in stats), default=0)
        found.append([str(path.resolve()), len(stats), sum(of.st_size for of in stats), last])
    return found


def _read(path: Path) -> dict[str, Any] | None:
    """What a run was; None if it is not known."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        return run if {"scmetaq", "options", "inputs"} <= set(run) else None
    except (OSError, TypeError, ValueError):
        return None


def _spelled(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "left out" if value is None else str(value)
