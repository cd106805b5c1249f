"""One job: read, set up, work, write, report."""

import json
import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import typer

from scmetaq._errors import InputError

from ._inputs import Cells, Columns, find_source, read_cells, read_data
from ._output import Output
from ._terminal import NOTE, REMEDIES, bad_input, plain, quiet, say, show_results

DEMO_LABELS = "cell_type"
REPORT = "pictures and the quality of the metacells"
JUDGING = "Judging the metacells and writing the report."
_FORMULA = re.compile(r"[=@\t\r](?!$)|[+-](?!$|[\d.]+$)")
_NAMES = {"labels_key": "Labels", "batch_key": "Batch", "categorical_covariate_keys": "Covariates"}


def column_option(help: str) -> Any:
    """An option that names a column of ``obs``."""
    return typer.Option(None, metavar="COLUMN", help=help)


@dataclass(kw_only=True)
class Job:
    """What all commands do; the fields are their options."""

    results: ClassVar[Mapping[str, str]]  # description of each file that the command may write
    remedies: ClassVar[Mapping[str, str]] = REMEDIES  # what to do, by the argument to blame

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
    layer: str | None = typer.Option(
        None,
        metavar="LAYER",
        help="Layer with the raw counts, X by default, or as of the cells of the --model; of an "
        ".h5mu file the layer of every modality that has it.",
    )
    out: Path | None = typer.Option(None, metavar="DIR", help="Directory to write to.")
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier result.")
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks and all messages.")
    command: str  # the command as it was typed

    def run(self) -> None:
        """Check, read, set up, work, write, report and show, in this order."""
        started = time.perf_counter()
        self.notes: list[str] = []
        self.source = find_source(self.input, self.file_key)
        inputs = [*self._check(), *self.source.paths]
        if self.out is None:
            raise InputError("Missing option --out DIR: where should the results go?")
        output = self.output = self._output(self.out)
        output.check(overwrite=self.overwrite, inputs=inputs)
        if output.is_complete:
            say(f"All results of this run are in {self.out} already.")
            return
        if output.last_stage:
            say(f"Going on after {output.last_stage}.")
        with quiet(self.note, debug=self.debug), output.working():
            self.cells = self._read()
            say(f"Read {self.cells.described()} from {self.source.name}.")
            with bad_input():
                self._set_up()
            self._work()
            self._write(output)
            output.put_in_place()
            page = self._page()
            if page is not None:
                output.write_report(lambda path: self._report(path, started, **page))
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

    def _output(self, out: Path) -> Output:
        return Output(out, self.results)

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

    def _write(self, output: Output) -> None:
        """Write every result but the report."""

    def _page(self) -> dict[str, Any] | None:
        """Arguments of the report; None: there is none."""

    def _rows(self) -> Iterable[tuple[str, ...]]:
        """Numbers to show at the end."""
        return ()


@dataclass(kw_only=True)
class JudgingJob(Job):
    """A job that judges an assignment of raw cells, by labels and batches in their ``obs``."""

    def _read(self) -> Cells:
        kind = getattr(self, "modality", None)
        return read_cells(self.source, self.layer, self.note, kind)

    def _find_columns(self, **keys: str | list[str] | None) -> dict[str, Columns]:
        self.columns = {name: self.cells.columns(of, name) for name, of in keys.items()}
        return self.columns

    def _judge(self, assignments: Any, facts: Mapping[str, object]) -> dict[str, Any]:
        """Compute the metrics, and return what the report says of these cells."""
        from scmetaq import metrics

        cells, by = self.cells, self._judged_by()
        names = {_NAMES[key]: ", ".join(of.names) or "none" for key, of in self.columns.items()}
        page: dict[str, Any] = {"adata": cells.data, "assignments": assignments}
        self.metrics = page["metrics"] = metrics.evaluate(cells.data, assignments["metacell"], **by)
        page |= {"labels_key": self.columns["labels_key"].names, "batch_key": by["conditions"]}
        page |= {"layer": cells.layer, "notes": self.notes}
        return page | {"facts": {**facts, **names}}

    def _judged_by(self) -> dict[str, Any]:
        """Arguments of the metrics."""
        return {
            "labels": next(iter(self.columns["labels_key"].names), None),
            "conditions": next(iter(self.columns["batch_key"].names), None),
            "layer": self.cells.layer,
            "modalities": list(self.cells.kinds.values()) or None,
        }

    def _rows(self) -> Iterable[tuple[str, ...]]:
        from scmetaq.report import tiles

        for value, name, better in tiles(self.metrics):
            yield name, value, f"{better} is better" if better else ""


def as_cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula, after an apostrophe; other values as is."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def write_table(path: Path, table: Any) -> None:
    """Write a table of cells that spreadsheets open without computing anything."""
    own = table.rename(index=as_cell, columns=as_cell).map(as_cell)
    own.to_csv(path, index_label="barcode")


def write_assignments(output: Output, assignments: Any) -> Path:
    """Write the metacell and the margin of each cell."""
    return output.write("assignments.csv", lambda path: write_table(path, assignments()))


def write_model(output: Output, model: Any, assignments: Any) -> None:
    """Write the metacells of the assignments of a model, and the model."""

    def write(path: Path) -> None:
        metacells = model._metacells_of(assignments["metacell"])
        write = metacells.write_h5mu if path.suffix == ".h5mu" else metacells.write_h5ad
        write(path, compression="gzip")

    ending = "h5mu" if hasattr(model.adata, "mod") else "h5ad"
    output.write(f"metacells.{ending}", write)
    output.write("model", lambda path: model.save(str(path)))


def code_after(command: str, out: Any, files: Collection[str], **facts: Any) -> str:
    """Python code to go on with after a command, for the very files that it wrote."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    options: Any = {"undefined": StrictUndefined, "trim_blocks": True}
    code = Environment(loader=PackageLoader("scmetaq.cli"), **options)
    paths = {file.split(".")[0]: json.dumps((out / file).as_posix()) for file in files}
    template = code.get_template(f"after_{command}.py.j2")
    return template.render(quoted=json.dumps, list=list, **paths, **facts) + "\n"
