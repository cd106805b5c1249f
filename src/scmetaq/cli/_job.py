"""One job: read, set up, work, write, report. Commands say what differs."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import typer

from scmetaq._errors import InputError

from ._inputs import Cells, Columns, find_source, read_cells
from ._output import check_output, report_of, staged
from ._terminal import NOTE, REMEDIES, bad_input, plain, quality_rows, quiet, say, show_results

_NAMES = {
    "labels_key": "Labels",
    "batch_key": "Batch",
    "categorical_covariate_keys": "Covariates",
}


@dataclass(kw_only=True)
class Job:
    """What all commands do; the fields are their options."""

    results: ClassVar[Mapping[str, str]]
    """Description of each file that the command may write."""
    remedies: ClassVar[Mapping[str, str]] = REMEDIES
    """What to do in terms of the command, by the argument to blame."""

    input: str = typer.Argument(
        metavar="INPUT",
        help="Cells with raw counts: an .h5ad file, an .h5mu file with several modalities, a .zarr "
        "store, or the word [bold]demo[/].",
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
        self.source = find_source(self.input)
        inputs = [*self._check(), *([self.source.path] if self.source.path else [])]
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
        raise NotImplementedError

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
        raise NotImplementedError


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

        cells, labels, batch = self.cells, self.columns["labels_key"], self.columns["batch_key"]
        names = {_NAMES[key]: ", ".join(of.names) or "none" for key, of in self.columns.items()}
        page: dict[str, Any] = {"adata": cells.data, "assignments": assignments}
        self.metrics = page["metrics"] = metrics.evaluate(
            cells.data,
            assignments["metacell"],
            labels.first,
            conditions=batch.first,
            layer=cells.layer,
            modalities=list(cells.kinds.values()) or None,
        )
        page |= {"labels_key": labels.names, "batch_key": batch.first, "layer": cells.layer}
        return page | {"notes": self.notes, "facts": {**facts, **names}}

    def _rows(self) -> Iterable[tuple[str, ...]]:
        return quality_rows(self.metrics)
