from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from scmetaq import pl
from scmetaq._errors import InputTypeError
from scmetaq.pl._style import svg_source

from ._tables import Row, metric_rows, modalities, of_modality, size_rows
from ._write_report import check_path, write_page


def write_comparison(
    path: str | Path,
    metrics: pd.DataFrame,
    *,
    facts: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write a page that puts methods side by side: one html file that needs nothing else.

    Parameters
    ----------
    path
        File to write, ending in ``.html``; its folder is made if there is none.
    metrics
        Table of :func:`scmetaq.metrics.compare`.
    facts
        What was run: names and values, in order.
    notes
        What the reader should know.

    Raises
    ------
    TypeError, ValueError, OSError
        No table with the columns of :func:`scmetaq.metrics.compare`, or no file that can be
        written.
    """
    path = Path(path)
    wanted = ["method", "metric", "metacell", "value", "better"]
    if not isinstance(metrics, pd.DataFrame) or not set(wanted) <= set(metrics.columns):
        problem = f"Expected a table of scmetaq.metrics.compare with the columns {wanted}, found"
        raise InputTypeError(f"{problem} {type(metrics).__name__}.", argument="metrics")
    check_path(path)
    frames = dict(list(metrics.groupby("method", sort=False)))
    tables = []
    for of in (None, *modalities(metrics)):
        rows = metric_rows([of_modality(frame, of) for frame in frames.values()], _is_best)
        tables.append(("Quality" if of is None else f"Quality, {of}", rows))
    tables.append(("Sizes", _size_rows(list(frames.values()))))
    write_page(
        path,
        "comparison.html.j2",
        headline=f"{len(frames)} assignments of the same cells",
        methods=list(frames),
        tables=[(title, rows) for title, rows in tables if rows],
        picture=svg_source(pl.metrics(metrics)[0]),
        facts=dict(facts or {}),
        notes=notes,
    )


def _is_best(_: str, means: list[float], better: str) -> pd.Series:
    values = pd.Series(means)
    return values == (values.max() if better == "higher" else values.min())


def _size_rows(tables: Sequence[pd.DataFrame]) -> list[Row]:
    of_each = [dict(size_rows(of_modality(table, None))) for table in tables]
    names = dict.fromkeys(name for of in of_each for name in of)
    return [Row(name, [(of.get(name, ""), False) for of in of_each], "", "") for name in names]
