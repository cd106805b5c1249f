"""Reports of results: JSON, the table of a section of the README, and a page next to the JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple


class Report(NamedTuple):
    """What a benchmark writes about its results, as Markdown."""

    short: str
    """The table of its section in the README."""
    full: str = ""
    """Further tables, which go to a page of their own."""


def save(args: argparse.Namespace, name: str, results: dict[str, Any], report: Report) -> None:
    """Write the results to ``args.out``, and their report.

    Parameters
    ----------
    args
        Parsed arguments, with ``out`` and ``readme``.
    name
        Of the section.
    results
        Content of the results file.
    report
        What to write about them.
    """
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    write_report(args.readme, args.out, name, report)


def write_report(readme: Path, out: Path, name: str, report: Report) -> None:
    """Write a report about the results file ``out``."""
    for page, text in reported(readme, out, name, report).items():
        page.write_text(text)


def reported(readme: Path, out: Path, name: str, report: Report) -> dict[Path, str]:
    """Return the pages that a report is on, each with its whole text."""
    pages = {readme: between(readme, *markers(name), f"\n{report.short}\n")}
    if report.full:
        pages[out.with_suffix(".md")] = (
            f"# Results: {name}\n\nWritten by a command of the [README](../README.md), which says "
            f"what was measured; the numbers are those of `{out.name}`.\n\n"
            f"{report.full}\n"
        )
    return pages


def markers(name: str) -> tuple[str, str]:
    """Return the comments around the table of a section."""
    return f"<!-- {name} -->", f"<!-- {name}: end -->"


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two markers of a page, each of which it must have once."""
    page.write_text(between(page, begin, end, text))


def between(page: Path, begin: str, end: str, text: str) -> str:
    """Return a page with other text between two markers, each of which it must have once."""
    whole = page.read_text()
    if whole.count(begin) != 1 or whole.count(end) != 1:
        raise ValueError(f"Expected {begin!r} and {end!r} once each in {page.name}.")
    before, rest = whole.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def table(heading: Iterable[str], rows: Iterable[Iterable[str]], *, n_text: int = 1) -> str:
    """Return a table whose first ``n_text`` columns are text and the others numbers."""
    heading = list(heading)
    rule = " --- |" * n_text + " ---: |" * (len(heading) - n_text)
    lines = [f"| {' | '.join(heading)} |", f"|{rule}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
