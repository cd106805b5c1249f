"""One job: read, set up, work, write, report; its results are there as a whole or not at all."""

import json
import secrets
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import typer

from scmetaq._errors import InputError

from ._inputs import Cells, Columns, find_source, read_cells, read_data
from ._terminal import ERROR, NOTE, REMEDIES, bad_input, plain, quiet, say, show_results

_MADE_BY_DESKTOPS = {".DS_Store", "desktop.ini"}
_NAMES = {"labels_key": "Labels", "batch_key": "Batch", "categorical_covariate_keys": "Covariates"}


@dataclass(kw_only=True)
class Job:
    """What all commands do; the fields are their options."""

    results: ClassVar[Mapping[str, str]]
    """Description of each file that the command may write."""
    remedies: ClassVar[Mapping[str, str]] = REMEDIES
    """What to do in terms of the command, by the argument to blame."""

    input: list[str] = typer.Argument(
        metavar="INPUT...",
        help="Cells with raw counts: one or several .h5ad files, .h5mu files with several "
        "modalities, or .zarr stores; or the word [bold]demo[/].",
    )
    file_key: str | None = typer.Option(
        None,
        metavar="COLUMN",
        help="Add a column to obs with the name of each cell's file, without its ending; it can be "
        "named in other options at once, e.g. --file-key sample --batch-key sample.",
    )
    out: Path | None = typer.Option(None, metavar="DIR", help="Directory to write to.")
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier result.")
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks and all messages.")
    command: str
    """The command as it was typed."""

    def run(self) -> None:
        """Check, read, set up, work, write, report and show, in this order."""
        started = time.perf_counter()
        self.notes: list[str] = []
        self.source = find_source(self.input, self.file_key)
        inputs = [*self._check(), *self.source.paths]
        if self.out is None:
            raise InputError("Missing option --out DIR: where should the results go?")
        check_output(self.out, overwrite=self.overwrite, results=self.results, inputs=inputs)
        with quiet(self.note, debug=self.debug):
            self.cells = self._read()
            say(f"Read {self.cells.described()} from {self.source.name}.")
            with bad_input():
                self._set_up()
            self._work()
            with staged(self.out, overwrite=self.overwrite) as folder:
                self._write(folder)
            with report_of(self.out) as path:
                page = self._page()
                if page is not None:
                    self._report(path, started, **page)
        show_results(self._rows(), self.out, self.results)

    def note(self, message: object) -> None:
        """Say once what the user may want to act on, and keep it for the report."""
        text = plain(message, self.remedies)
        if text not in self.notes:
            self.notes.append(text)
            say(text, NOTE)

    def _report(
        self, path: Path, started: float, *, facts: dict, of_which: str = "", **page: Any
    ) -> None:
        from scmetaq.report import write_report

        time_taken = f"{time.perf_counter() - started:.0f} s{of_which}"
        last = {"Time": time_taken, "Command": self.command}
        write_report(path, facts={"Input": self.source.name, **facts, **last}, **page)

    def _check(self) -> list[Path]:
        """Refuse options before anything is read, and return the paths of further inputs."""
        return []

    def _read(self) -> Cells:
        data = read_data(self.source)
        return Cells(data, {name: name for name in getattr(data, "mod", {})})

    def _set_up(self) -> None:
        """Do what checks the input: any refusal is bad input."""

    def _work(self) -> None:
        """Do the rest."""

    def _write(self, folder: Path) -> None:
        """Write every result but the report."""

    def _page(self) -> dict[str, Any] | None:
        """Arguments of the report; None: there is none."""

    def _rows(self) -> Iterable[tuple[str, ...]]:
        """Numbers to show at the end."""
        return ()


@dataclass(kw_only=True)
class JudgingJob(Job):
    """A job that judges an assignment of raw cells, by labels and batches in their ``obs``."""

    layer: str | None = typer.Option(
        None,
        metavar="LAYER",
        help="Layer with the raw counts, X by default; of an .h5mu file the layer of every "
        "modality that has it, X of the others.",
    )

    def _read(self) -> Cells:
        return read_cells(self.source, self.layer, self.note)

    def _find_columns(self, **keys: str | list[str] | None) -> dict[str, Columns]:
        self.columns = {name: self.cells.columns(of, name) for name, of in keys.items()}
        return self.columns

    def _judge(self, assignments: Any, facts: Mapping[str, object]) -> dict[str, Any]:
        """Compute the metrics, and return what the report says of these cells."""
        from scmetaq import metrics

        cells, labels = self.cells, self.columns["labels_key"].names
        batch = next(iter(self.columns["batch_key"].names), None)
        names = {_NAMES[key]: ", ".join(of.names) or "none" for key, of in self.columns.items()}
        page: dict[str, Any] = {"adata": cells.data, "assignments": assignments}
        self.metrics = page["metrics"] = metrics.evaluate(
            cells.data,
            assignments["metacell"],
            next(iter(labels), None),
            conditions=batch,
            layer=cells.layer,
            modalities=list(cells.kinds.values()) or None,
        )
        page |= {"labels_key": labels, "batch_key": batch, "layer": cells.layer}
        return page | {"notes": self.notes, "facts": {**facts, **names}}

    def _rows(self) -> Iterable[tuple[str, ...]]:
        from scmetaq.report import tiles

        for value, name, better in tiles(self.metrics):
            yield name, value, f"{better} is better" if better else ""


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
                problem = f"{path} lies in {out}, which would be replaced: choose another --out."
                raise InputError(problem)
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
        problem = f"{out} cannot be made ({error.strerror or error}): choose another --out."
        raise InputError(problem) from error


def _check_replaceable(out: Path, overwrite: bool, results: Collection[str]) -> None:
    if not out.is_dir():
        raise InputError(f"{out} is a file: choose another name for --out.")
    if not overwrite:
        raise InputError(f"{out} exists: choose another --out, or pass --overwrite to replace it.")
    others = {path.name for path in out.iterdir()} - set(results) - _MADE_BY_DESKTOPS
    if others:
        problem = f"{out} holds more than results of this command, e.g."
        raise InputError(f"{problem} {min(others)!r}, and is not replaced: choose another --out.")


def _make_staging(out: Path) -> Path:
    # in the closest ancestor that exists: the same file system, so that renaming is one step
    parent = next(parent for parent in out.resolve().parents if parent.exists())
    staging = parent / f".{out.name}-{secrets.token_hex(4)}"
    staging.mkdir()
    return staging


def _put_in_place(staging: Path, out: Path, overwrite: bool) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if not (overwrite and out.exists()):
        staging.rename(out)
        return
    earlier = out.with_name(f".{out.name}-{secrets.token_hex(4)}")
    out.rename(earlier)
    try:
        staging.rename(out)
    except OSError:
        earlier.rename(out)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def write_model(folder: Path, model: Any, assignments: Any) -> None:
    """Write a model, its metacells and the assignments."""
    metacells = model._metacells_of(assignments["metacell"])
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
