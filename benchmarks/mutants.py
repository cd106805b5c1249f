"""Do the tests notice? One change of one line at a time, most in the networks and the tools.

usage: python benchmarks/mutants.py [--only TEXT] [--again]

Each mutant of ``mutants.toml`` is a copy of the package in which one text of one file is replaced.
It is killed if a test fails: those of the file that mirrors it first, then those of its folder and
of the models. Results go to ``results/mutants.json``, mutants that survive with the reason that
``mutants.toml`` gives.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

from _markdown import Report, save, table
from _methods import HERE
from _runs import one_thread

ROOT: Final = HERE.parent
PACKAGE: Final = ROOT / "src" / "scmetaq"
MODELS: Final = ("tests/model/test_metaq.py", "tests/model/test_metacells.py")


def main() -> int:
    """Run the mutants that the results lack, then write results and table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="part of the name of a file")
    parser.add_argument("--again", action="store_true", help="run also what the results have")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "mutants.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    args = parser.parse_args()
    mutants = tomllib.loads((HERE / "mutants.toml").read_text())["mutant"]
    kept = json.loads(args.out.read_text())["runs"] if args.out.exists() else []
    done = {(run["file"], run["old"], run["new"]): run for run in kept}
    asked = {(of["file"], of["old"], of["new"]): of for of in mutants}
    for key, mutant in asked.items():
        if args.only in mutant["file"] and (args.again or key not in done):
            done[key] = mutant | killed_by(mutant)
            print(done[key]["killed_by"] or "SURVIVED", *key, flush=True)
            runs = [
                done[of] | {"reason": asked[of].get("reason", "")} for of in asked if of in done
            ]
            results = {"runs": runs}
            save(args, "mutants", results, report(results))
    return 0


def killed_by(mutant: dict[str, Any]) -> dict[str, Any]:
    """The tests that fail with a mutant; none if it survives."""
    folder, name = mutant["file"].split("/")
    own = f"tests/{folder}/test{name}"
    for tests in ((own,), (f"tests/{folder}", *MODELS)):
        existing = [of for of in tests if (ROOT / of).exists()]
        if existing and fails(mutant, existing):
            return {"killed_by": " ".join(tests)}
    return {"killed_by": ""}


def fails(mutant: dict[str, Any], tests: list[str]) -> bool:
    """Whether a test fails in a copy of the package with the change."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src" / "scmetaq"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / mutant["file"]
        text = file.read_text()
        if text.count(mutant["old"]) != 1:
            raise ValueError(f"{mutant['file']} has {mutant['old']!r} {text.count(mutant['old'])}x")
        file.write_text(text.replace(mutant["old"], mutant["new"]))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, **one_thread(), "PYTHONPATH": str(copy.parent)}
        options: dict[str, Any] = {"cwd": ROOT, "env": environment, "capture_output": True}
        try:
            return subprocess.run(command, check=False, timeout=1_200, **options).returncode != 0
        except subprocess.TimeoutExpired:
            return True


def report(results: dict[str, Any]) -> Report:
    """How many are killed, by folder, and a line for each survivor."""
    runs, rows = results["runs"], []
    for folder in sorted({run["file"].split("/")[0] for run in runs}):
        of_folder = [run for run in runs if run["file"].startswith(f"{folder}/")]
        killed = sum(bool(run["killed_by"]) for run in of_folder)
        rows.append([f"`{folder}`", str(len(of_folder)), str(killed)])
    rows.append(["all", str(len(runs)), str(sum(bool(run["killed_by"]) for run in runs))])
    survivors = [
        f"- `{of['file']}`, `{of['old'].strip()}` as `{of['new'].strip()}`: {of['reason']}."
        for of in runs
        if not of["killed_by"]
    ]
    return Report("\n\n".join([table(["part", "mutants", "killed"], rows), "\n".join(survivors)]))


if __name__ == "__main__":
    raise SystemExit(main())
