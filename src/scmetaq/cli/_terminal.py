"""What a command says: progress on stderr, results on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

_ARROWS = {"higher": "higher is better", "lower": "lower is better"}
_SHOWN = {
    "n_metacells": "metacells",
    "size_median": "cells per metacell, median",
    "unassigned": "cells without a metacell",
    "compactness": "compactness",
    "separation": "separation",
    "purity": "purity",
    "balanced_accuracy": "balanced accuracy",
    "mixing": "mixing of batches",
}


def say(message: str) -> None:
    """Tell of progress."""
    Console(stderr=True, highlight=False).print(message, markup=False, soft_wrap=True)


def say_note(message: str) -> None:
    """Tell of something that the user may want to act on."""
    console = Console(stderr=True, highlight=False)
    console.print("[yellow]Note:[/]", end=" ")
    console.print(message, markup=False, soft_wrap=True)


def show_results(metrics: pd.DataFrame, out: Path, files: Mapping[str, str]) -> None:
    """Print a short table of quality and where the results are.

    Parameters
    ----------
    metrics
        Table of ``scmetaq.metrics.evaluate``.
    out
        Directory of the results.
    files
        What is in it: name and description.
    """
    _show(_quality(metrics), out, files)


def show_facts(facts: Mapping[str, str], out: Path, files: Mapping[str, str]) -> None:
    """Print a few numbers and where the results are.

    Parameters
    ----------
    facts
        Numbers by name.
    out, files
        As for :func:`show_results`.
    """
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in facts.items():
        table.add_row(name, value)
    _show(table, out, files)


def _show(table: Table, out: Path, files: Mapping[str, str]) -> None:
    console = Console(highlight=False)
    console.print()
    console.print(table)
    console.print()
    console.print(f"Written to {out}{'' if str(out).endswith('/') else '/'}", markup=False)
    width = max(map(len, files))
    for name, description in files.items():
        line = f"  {name.ljust(width)}  {description}"
        console.print(line, markup=False, soft_wrap=True)


def _quality(metrics: pd.DataFrame) -> Table:
    better = metrics.groupby("metric")["better"].first()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for metric, words in _SHOWN.items():
        for modality, value in _means(metrics, metric).items():
            if not (metric == "unassigned" and value == 0):
                is_count = metric in ("n_metacells", "size_median", "unassigned")
                shown = f"{value:,g}" if is_count else f"{value:.3f}"
                name = f"{words}, {modality}" if modality else words
                table.add_row(name, shown, _ARROWS.get(better[metric], ""))
    return table


def _means(metrics: pd.DataFrame, metric: str) -> dict[str, float]:
    """Mean of a metric by modality; of all of them, by nothing."""
    rows = metrics[metrics["metric"] == metric]
    if "modality" not in rows:
        return {"": rows["value"].mean()} if len(rows) else {}
    return rows.groupby(rows["modality"].fillna(""), sort=False)["value"].mean().to_dict()
