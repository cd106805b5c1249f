"""Tables and numbers of the documentation, from the results: nothing measured is typed by hand.

usage: python benchmarks/docs_numbers.py

In the pages, ``<!-- number: FILE; WORD; ...; COLUMN; FORMAT -->0.908<!-- / -->`` is a number of
``results/FILE.json``: of the rows that have every word as the value of a field, the median over
seeds, mean over data sets, as Python formats it. ``<!-- table: NAME -->`` up to
``<!-- /table -->`` is the table of a section of ``benchmarks/README.md``. This command writes both;
a test fails where they are not what it writes.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results"
NUMBER: Final = re.compile(r"<!-- number: (.*?) -->(.*?)<!-- / -->")
TABLE: Final = re.compile(r"<!-- table: (\w+) -->\n(.*?)<!-- /table -->", re.DOTALL)


def main() -> None:
    """Write tables and numbers of all pages."""
    for page in pages():
        page.write_text(written(page.read_text()))


def pages() -> list[Path]:
    """Return all pages that can have numbers."""
    guide = sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "docs" / "user_guide").glob("*"))
    return [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *guide]


def written(text: str) -> str:
    """Return the text of a page with tables and numbers as the results have them."""
    text = TABLE.sub(lambda m: f"<!-- table: {m[1]} -->\n\n{table(m[1])}\n\n<!-- /table -->", text)
    return NUMBER.sub(lambda m: f"<!-- number: {m[1]} -->{number(m[1])}<!-- / -->", text)


def table(name: str) -> str:
    """Return the table of a section of the README of the benchmarks."""
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    section = readme.split(f"<!-- {name} -->")[1].split(f"<!-- {name}: end -->")[0]
    return "\n".join(line for line in section.splitlines() if line.startswith("|"))


def number(key: str) -> str:
    """Return a number of the results; it is an error if there is none."""
    file, *words, column, how = key.split("; ")
    groups: dict[Any, dict[Any, list[float]]] = {}
    for row in rows(file):
        if column in row and set(words) <= {str(value) for value in row.values()}:
            part = tuple(row.get(name) for name in ("split", "batch"))
            of_set = groups.setdefault(row.get("dataset"), {})
            of_set.setdefault(part, []).append(float(row[column]))
    if not groups:
        raise KeyError(f"Expected a number for {key!r}, found none in {file}.json.")
    return format(fmean(fmean(map(median, parts.values())) for parts in groups.values()), how)


@functools.cache
def rows(file: str) -> list[dict[str, Any]]:
    """Return the rows of a results file: medians over seeds if it has them, else single runs."""
    results = json.loads((RESULTS / f"{file}.json").read_text())
    return [
        {
            key: of["median"] if isinstance(of, dict) and "median" in of else of
            for key, of in row.items()
        }
        for row in results.get("summary", results["runs"])
    ]


if __name__ == "__main__":
    main()
