"""Judge the metacells of any method."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._errors import BadInput, bad_input
from ._input import read_cells
from ._modalities import describe, facts, find_labels, find_layers, find_modalities
from ._output import staged
from ._quiet import quiet
from ._terminal import say, say_note, show_results

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

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

        table = _read_assignments(options.assignments)
        data = read_cells(options.source)
        names = find_modalities(data, note) if options.source.is_mudata else {}
        say(f"Read {describe(data, names)} from {options.source.name}.")
        labels = find_labels(data, [options.labels_key] if options.labels_key else [])
        batch = [options.batch_key] if options.batch_key else []
        batches = find_labels(data, batch, "--batch-key")
        if names:
            find_layers(data, names, options.layer)
        table = _aligned(table, data, options, note)
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
            write_report(
                folder / "report.html",
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


def check_assignments(path: Path) -> None:
    """Check what can be checked of ASSIGNMENTS without reading it."""
    if not path.is_file():
        raise BadInput(f"There is no file {path}: check the spelling and the folder.")


def _read_assignments(path: Path) -> pd.DataFrame:
    """Metacell, and margin if there is one, by barcode; missing where a cell has none."""
    import pandas as pd

    separator = "\t" if ".tsv" in path.suffixes else ","
    try:
        raw = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, na_values=[""])
    except (ValueError, OSError) as error:
        raise BadInput(f"{path} cannot be read as a table: {_first_line(error)}.") from error
    barcodes, metacells = _columns(raw, path)
    names = raw[metacells].where(~raw[metacells].isin(["-1", "-1.0"]))
    table = pd.DataFrame({"metacell": names.to_numpy()}, index=pd.Index(raw[barcodes]))
    if "margin" in raw:
        table["margin"] = pd.to_numeric(raw["margin"], errors="coerce").to_numpy()
    return table


def _columns(raw: pd.DataFrame, path: Path) -> tuple[str, str]:
    """Names of the columns with barcodes and metacells."""
    names = list(raw.columns)
    barcodes = "barcode" if "barcode" in names else names[0]
    others = [name for name in names if name != barcodes]
    if "metacell" in others:
        return barcodes, "metacell"
    if len(others) == 1:
        return barcodes, others[0]
    raise BadInput(
        f"Expected {path} to have a header and the columns barcode and metacell, found "
        f"{', '.join(map(repr, names))}: rename the one with metacells to 'metacell'."
    )


def _aligned(
    table: pd.DataFrame,
    data: AnnData | MuData,
    options: EvaluateOptions,
    note: Callable[[str], None],
) -> pd.DataFrame:
    """Bring the table into the order of the cells, telling what does not match."""
    path, source = options.assignments, options.source.name
    if not table.index.is_unique:
        repeated = table.index[table.index.duplicated()][0]
        raise BadInput(f"Expected one row per barcode in {path}, found {repeated!r} repeatedly.")
    n_known = int(table.index.isin(data.obs_names).sum())
    if n_known == 0:
        raise BadInput(
            f"None of the barcodes of {path} (e.g. {_example(table.index)}) is among those of "
            f"{source} (e.g. {_example(data.obs_names)}): bring them to the same form."
        )
    if n_known < len(table):
        unknown = f"{len(table) - n_known:,} of {len(table):,} barcodes of {path}"
        note(f"{unknown} are not in {source} and left out.")
    if n_known < data.n_obs:
        absent = f"{data.n_obs - n_known:,} of {data.n_obs:,} cells of {source}"
        note(f"{absent} are not in {path} and count as cells without a metacell.")
    return table.reindex(data.obs_names)


def _example(names: pd.Index) -> str:
    return repr(names[0]) if len(names) else "none"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
