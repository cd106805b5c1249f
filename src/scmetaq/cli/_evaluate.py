"""Judge the metacells of any method."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._assignments import align_assignments, read_assignments
from ._errors import bad_input, report_of
from ._input import read_cells
from ._modalities import (
    check_layer,
    describe,
    facts,
    find_labels,
    find_layers,
    find_modalities,
)
from ._output import staged
from ._quiet import quiet
from ._terminal import say, say_note, show_results

if TYPE_CHECKING:
    from pathlib import Path

    from ._input import Source

RESULTS = {
    "metrics.csv": "every number: metric, metacell, value, better",
    "report.html": "pictures and the quality of the metacells",
}

NEXT_STEPS = """\
import pandas as pd
import scmetaq

# the metrics of several methods side by side
tables = {{"this one": {metrics}, "another": "another/metrics.csv"}}
frame = pd.concat(pd.read_csv(path).assign(method=name) for name, path in tables.items())
scmetaq.pl.metrics(frame)
"""


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of ``scmetaq evaluate``, checked as far as that needs no data."""

    source: Source
    assignments: Path
    out: Path
    layer: str | None
    labels_key: str | None
    batch_key: str | None
    overwrite: bool
    command: str
    debug: bool


def evaluate(options: EvaluateOptions) -> None:
    """Read, judge and write, in this order."""
    from scmetaq import metrics
    from scmetaq.report import write_report

    started = time.perf_counter()
    with quiet(say_note, debug=options.debug) as notes:

        def note(message: str) -> None:
            notes.append(message)
            say_note(message)

        table = read_assignments(options.assignments)
        data = read_cells(options.source)
        names = find_modalities(data, note) if options.source.is_mudata else {}
        say(f"Read {describe(data, names)} from {options.source.name}.")
        labels = find_labels(data, [options.labels_key] if options.labels_key else [])
        batch = [options.batch_key] if options.batch_key else []
        batches = find_labels(data, batch, "--batch-key")
        if options.source.is_mudata:
            find_layers(data, names, options.layer)
        else:
            check_layer(data, options.layer)
        table = align_assignments(
            table, data, path=options.assignments, source=options.source.name, note=note
        )
        say("Judging the metacells and writing the report.")
        with bad_input():
            quality = metrics.evaluate(
                data,
                table["metacell"],
                labels.first(data),
                conditions=batches.first(data),
                layer=options.layer,
                modalities=list(names.values()) or None,
            )
        with staged(options.out, overwrite=options.overwrite) as folder:
            quality.to_csv(folder / "metrics.csv", index=False)
        with report_of(options.out) as path:
            write_report(
                path,
                data,
                table,
                metrics=quality,
                labels_key=labels.names,
                batch_key=next(iter(batches.names), None),
                layer=options.layer,
                facts={
                    "Input": options.source.name,
                    **facts(data, names, options.layer),
                    "Assignments": str(options.assignments),
                    "Labels": ", ".join(labels.names) or "none",
                    "Batch": ", ".join(batches.names) or "none",
                    "Time": f"{time.perf_counter() - started:.0f} s",
                    "Command": options.command,
                },
                next_steps=NEXT_STEPS.format(
                    metrics=json.dumps((options.out / "metrics.csv").as_posix())
                ),
                notes=notes,
            )
    show_results(quality, options.out, RESULTS)
