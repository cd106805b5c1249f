"""The commands that judge metacells of any method, one assignment or several."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from scmetaq._errors import InputError

from ._inputs import Cells, align_assignments, check_assignments, is_table, read_assignments
from ._job import DEMO_LABELS, JUDGING, REPORT, JudgingJob, code_after, column_option
from ._output import Output
from ._terminal import say


@dataclass(kw_only=True)
class _Tables(JudgingJob):
    """A job that judges tables of metacells."""

    tables: list[Path] = field(init=False)
    labels_key: str | None = column_option(
        "Column of obs with labels to judge by, also of one modality (rna:COLUMN)."
    )
    batch_key: str | None = column_option(
        "Column of obs with the batch, to judge how metacells mix batches; also of one modality "
        "(rna:COLUMN)."
    )

    def _check(self) -> list[Path]:
        if not self.source.paths:
            self.labels_key = self.labels_key or DEMO_LABELS
        for path in self.tables:
            check_assignments(path)
        return self.tables

    def _set_up(self) -> None:
        self._find_columns(labels_key=self.labels_key, batch_key=self.batch_key)

    def _aligned(self, table: Any, path: Path) -> Any:
        """Return a table in the order of the cells."""
        return align_assignments(table, self.cells.data.obs_names, path, self.source, self.note)

    def _write(self, output: Output) -> None:
        output.write("metrics.csv", lambda path: self.metrics.to_csv(path, index=False))


@dataclass(kw_only=True)
class Evaluate(_Tables):
    """Judge the metacells of any method and write the numbers and a report."""

    results = {
        "metrics.csv": "every number: metric, metacell, value, better",
        "report.html": REPORT,
    }

    assignments: Path = typer.Argument(
        metavar="ASSIGNMENTS",
        help="Table of any method, .csv or .tsv, with the columns barcode and metacell.",
    )

    def __post_init__(self) -> None:
        self.tables = [self.assignments]

    def _read(self) -> Cells:
        self.table = read_assignments(self.assignments)
        return super()._read()

    def _set_up(self) -> None:
        super()._set_up()
        table = self._aligned(self.table, self.assignments)
        say(JUDGING)
        facts = {**self.cells.facts(), "Assignments": str(self.assignments)}
        self.judged = self._judge(table, facts)  # refuses bad input before it works

    def _page(self) -> dict[str, Any]:
        return {**self.judged, "next_steps": code_after("evaluate", self.out, ["metrics.csv"])}


@dataclass(kw_only=True)
class Compare(_Tables):
    """Judge several assignments of the same cells, of any method, side by side."""

    results = {
        "metrics.csv": "every number: method, metric, metacell, value, better",
        "report.html": "the methods side by side",
    }

    input: list[str] = typer.Argument(
        metavar="INPUT... ASSIGNMENTS...",
        help="Cells as of [bold]scmetaq infer[/], then tables of metacells, .csv or .tsv, with the "
        "columns barcode and metacell; the name of each file is that of its method.",
    )
    baseline: list[str] | None = typer.Option(
        None,
        metavar="NAME",
        help="Method to run for comparison: random, kmeans, geosketch or walktrap; repeat for "
        "several.",
    )

    def __post_init__(self) -> None:
        tables = [text for text in self.input if is_table(Path(text))]
        self.tables = list(map(Path, tables))
        self.input = [text for text in self.input if text not in tables]

    def _check(self) -> list[Path]:
        if not self.tables:
            problem = "Expected tables of metacells, .csv or .tsv, after INPUT, found none:"
            raise InputError(f"{problem} name one for each method.")
        paths = super()._check()
        names = [path.stem for path in paths]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            problem = f"Expected a file name of its own for each method, found {min(repeated)!r}"
            raise InputError(f"{problem} more than once: rename one.")
        return paths

    def _set_up(self) -> None:
        from scmetaq import metrics

        super()._set_up()
        given = {}
        for path in self.tables:
            given[path.stem] = self._aligned(read_assignments(path), path)["metacell"]
        say("Judging the metacells of each method.")
        self.metrics = metrics.compare(
            self.cells.data, given, baselines=self.baseline or (), **self._judged_by()
        )

    def _page(self) -> dict[str, Any]:
        tables = ", ".join(map(str, self.tables))
        return {"facts": {**self.cells.facts(), "Assignments": tables}}

    def _report(self, path: Path, started: float, *, facts: dict, **page: Any) -> None:
        from scmetaq.report import write_comparison

        facts = {"Input": self.source.name, **facts, "Command": self.command}
        write_comparison(path, self.metrics, facts=facts, notes=self.notes)

    def _rows(self) -> Iterable[tuple[str, ...]]:
        from scmetaq.report import tiles

        found: dict[str, list[str]] = {}
        methods = self.metrics.groupby("method", sort=False)
        for _, of in methods:
            for value, name, _ in tiles(of):
                found.setdefault(name, []).append(value)
        yield "", *methods.groups
        yield from ((name, *values) for name, values in found.items())
