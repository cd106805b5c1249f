"""Write all tables of the benchmarks again, from the results files: one command, no run.

usage: python benchmarks/report.py [--check] [NAME ...]

``NAME`` is the name of a results file, ``rna`` for ``results/rna.json``. Writes the tables of the
README and the pages in ``results``, then tables and numbers of the documentation. ``--check``
writes nothing and fails if a page is not what it would write.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Final

import docs_numbers
from _markdown import reported

HERE: Final = Path(__file__).resolve().parent
SCRIPTS: Final = {"rna": "quality", "speed": "_speed_report", "new_batch": "new_cells"}
"""Module of the results that have another name than it."""
NOT_IN_README: Final = ("ablation", "guard")


def main() -> int:
    """Write what was asked for, or check it."""
    files = {file.stem: file for file in sorted((HERE / "results").glob("*.json"))}
    names = [name for name in files if name not in NOT_IN_README]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--check", action="store_true", help="write nothing")
    args, stale = parser.parse_args(), set()
    for name in args.names or names:
        module = importlib.import_module(SCRIPTS.get(name, name))
        report = module.report(json.loads(files[name].read_text()))
        for page, text in reported(HERE / "README.md", files[name], name, report).items():
            if not page.exists() or page.read_text() != text:
                stale.add(f"{name} in {page.name}")
                if not args.check:
                    page.write_text(text)
    if not args.check:
        docs_numbers.main()
    print(*sorted(stale), sep="\n")
    return int(args.check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
