from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from scmetaq._errors import InputTypeError

from . import _pictures, _tables
from ._write_report import check_path, render, write_page

_METHOD = "method"


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
    wanted = [_METHOD, "metric", "metacell", "value", "better"]
    if not isinstance(metrics, pd.DataFrame) or not set(wanted) <= set(metrics.columns):
        problem = f"Expected a table of scmetaq.metrics.compare with the columns {wanted}, found"
        raise InputTypeError(f"{problem} {type(metrics).__name__}.", argument="metrics")
    check_path(path)
    frames = dict(list(metrics.groupby(_METHOD, sort=False)))
    parts = [None, *_tables.modalities(metrics)]
    tables = [("Quality" if of is None else f"Quality, {of}", _rows(frames, of)) for of in parts]
    tables.append(("Sizes", _size_rows(frames)))
    page = render(
        "comparison.html.j2",
        headline=f"{len(frames)} assignments of the same cells",
        methods=list(frames),
        tables=[(title, rows) for title, rows in tables if rows],
        picture=_pictures.comparison(metrics),
        facts=dict(facts or {}),
        notes=notes,
    )
    write_page(path, page)


def _rows(frames: Mapping[str, pd.DataFrame], modality: str | None) -> list[_tables.Row]:
    """Mean of each metric of each method; the best in the direction of the metric."""
    rows = []
    tables = [_tables.of_modality(frame, modality) for frame in frames.values()]
    for name, meaning in _tables.QUALITY.items():
        found = [of[of["metric"] == name] for of in tables]
        means = [float(of["value"].mean()) for of in found]
        better = [direction for of in found for direction in of["better"]]
        if better:
            known = pd.Series(means).dropna()
            best = known.max() if better[0] == "higher" else known.min()
            values = [(_tables.decimal(mean), mean == best) for mean in means]
            rows.append(_tables.Row(_tables.in_words(name), values, better[0], meaning))
    return rows


def _size_rows(frames: Mapping[str, pd.DataFrame]) -> list[_tables.Row]:
    of_each = [dict(_tables.size_rows(_tables.of_modality(of, None))) for of in frames.values()]
    names = dict.fromkeys(name for of in of_each for name in of)
    return [
        _tables.Row(name, [(of.get(name, ""), False) for of in of_each], "", "") for name in names
    ]
