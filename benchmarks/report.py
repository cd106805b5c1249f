"""Write all tables of the benchmarks again, from the results files: one command, no run.

usage: python benchmarks/report.py [NAME ...]

``NAME`` is the name of a results file, ``rna`` for ``results/rna.json``. Writes the tables of the
README and the pages in ``results``, then tables and numbers of the documentation.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Final

import docs_numbers
from _markdown import write_report

HERE: Final = Path(__file__).resolve().parent
SCRIPTS: Final = {"rna": "quality", "speed": "_speed_report", "new_batch": "new_cells"}
"""Module of the results that have another name than it."""
NOT_IN_README: Final = ("ablation", "guard")


def main() -> None:
    """Write what was asked for."""
    files = {file.stem: file for file in sorted((HERE / "results").glob("*.json"))}
    names = [name for name in files if name not in NOT_IN_README]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    for name in parser.parse_args().names or names:
        module = importlib.import_module(SCRIPTS.get(name, name))
        report = module.report(json.loads(files[name].read_text()))
        write_report(HERE / "README.md", files[name], name, report)
    docs_numbers.main()


if __name__ == "__main__":
    main()
