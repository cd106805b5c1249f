"""Kill commands and saves at random moments, and see what is there afterwards.

usage: python benchmarks/kills.py [--n 64]

Half of the commands are given ``--overwrite`` and earlier results. What is there afterwards must be
as before, or the new results as a whole, and the next run must give these.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from _markdown import Report, save, table

import scmetaq

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
sys.path.insert(0, str(TESTS / "cli"))

from corruption import cells  # noqa: E402
from forked import Forks  # noqa: E402

COLUMNS = ("killed", "stopped", "earlier", "new", "others")
STOPS = {"SIGKILL": signal.SIGKILL, "SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}


def whole(out):
    """Bytes of the tables and metacells in a folder of results, whose model must be readable."""
    if (out / "model").exists():
        scmetaq.MetaQModel.load(out / "model", False, accelerator="cpu")
    files = [of for of in out.iterdir() if of.suffix in (".csv", ".h5ad")]
    return {of.name: of.read_bytes() for of in files}


def commands(folder, forks):
    """Words of each command, and of the one whose results are the earlier ones."""
    adata, _ = cells()
    adata.write_h5ad(folder / "cells.h5ad")
    adata[::2].copy().write_h5ad(folder / "query.h5ad")
    few = ("--max-epochs", 2, "--accelerator", "cpu", "--batch-key", "lane", "--n-metacells")
    infer = ("infer", folder / "cells.h5ad", *few)
    for k in (5, 6):
        assert forks(*infer, k, "--out", folder / f"model{k}")[0] == 0
    tables = [folder / f"model{k}" / "assignments.csv" for k in (5, 6)]
    query = ("map", folder / "query.h5ad", "--accelerator", "cpu", "--model")
    return {
        "infer": [(*infer, k) for k in (5, 6)],
        "map": [(*query, folder / f"model{k}" / "model") for k in (5, 6)],
        "evaluate": [("evaluate", folder / "cells.h5ad", table) for table in tables],
    }


def killed(forks, words, out, kept, kill):
    """How a command ends that is stopped, on earlier results or on none, and what is there."""
    shutil.rmtree(out.parent, ignore_errors=True)
    out.parent.mkdir()
    if kept is not None:
        shutil.copytree(kept, out)
    more = ("--overwrite",) if kept is not None else ()
    status, _, _, said = forks(*words, "--out", out, *more, **kill)
    moved = out.with_name(f".{out.name}.scmetaq-earlier")
    there = out if out.exists() else moved
    names = set(os.listdir(there)) - {"checkpoints"} if there.exists() else set()
    return status, said, whole(there) if names else None


def of_command(forks, name, pair, n, rng, work):
    """Kill a command ``n`` times, half of them onto earlier results; yield what was found."""
    out, kept = work / "out", work.with_name(f"kept-{name}")
    assert forks(*pair[0], "--out", kept)[0] == 0
    earlier = whole(kept)
    shutil.rmtree(out.parent, ignore_errors=True)
    out.parent.mkdir()
    status, n_changes, seconds, said = forks(*pair[1], "--out", out)
    assert status == 0, said
    expected = whole(out)
    assert expected != earlier
    for i in range(n):
        stop = "SIGKILL" if i % 4 < 2 else ("SIGINT", "SIGTERM")[i // 4 % 2]
        kill = {"kill_after": seconds * rng.uniform(0.05, 0.95), "signal": STOPS[stop]}
        if i % 4 == 0:
            kill = {"kill_before": int(rng.integers(1, n_changes + 1))}
        onto = kept if i // 2 % 2 else None
        status, said, found = killed(forks, pair[1], out, onto, kill)
        is_earlier = found == (earlier if onto else None)
        problems = []
        if not is_earlier and found != expected:
            problems.append("what is there is neither the earlier result nor the new one")
        if stop != "SIGKILL" and status not in (0, 130):
            problems.append(f"status {status}: {said[-300:]}")
        if stop != "SIGKILL" and status == 130 and "Traceback" in said:
            problems.append(f"more than one line: {said[-300:]}")
        status, *_, said = forks(*pair[1], "--out", out, "--overwrite")
        if status != 0 or whole(out) != expected or os.listdir(out.parent) != ["out"]:
            problems.append(f"the next run: {status}, {os.listdir(out.parent)}, {said[-300:]}")
        yield stop, "earlier" if is_earlier else "new", [f"{name}, {kill}: {p}" for p in problems]


def of_saves(folder):
    """Kill ``save`` before each of its changes to files, with and without cells."""
    for with_cells in ("false", "true"):
        words = [TESTS / "model" / "killed_saves.py", folder / "5", folder / "6", folder / "both"]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *words, with_cells], capture_output=True, text=True
        )
        for line in done.stdout.splitlines():
            status, n_metacells, *_ = json.loads(line)
            if status == -9:
                is_whole = done.returncode == 0 and n_metacells in (5, 6)
                yield "SIGKILL", {5: "earlier", 6: "new"}[n_metacells], [] if is_whole else [line]
        if done.returncode:
            yield "SIGKILL", "unreadable", [done.stderr[-300:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "kills.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    options = parser.parse_args()
    rng, started = np.random.default_rng(0), time.perf_counter()
    counts, problems = {}, []

    def count(name, trials):
        for stop, there, odd in trials:
            of = counts.setdefault(name, Counter())
            of["killed" if stop == "SIGKILL" else "stopped"] += 1
            of["others" if odd else there] += 1
            problems.extend(odd)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        forks = Forks(folder)
        try:
            found = commands(folder, forks)
            for command, pair in found.items():
                trials = of_command(forks, command, pair, -(-options.n // 3), rng, forks.folder)
                count(command, trials)
                print(command, dict(counts[command]), problems, flush=True)
        finally:
            forks.close()
        for k in (5, 6):
            model = scmetaq.MetaQModel.load(
                folder / f"model{k}" / "model", cells()[0], accelerator="cpu"
            )
            model.save(folder / str(k), save_anndata=True)
        count("save", of_saves(folder))
        print("save", dict(counts["save"]), problems, flush=True)
    runs = [{"command": name, **dict(of)} for name, of in counts.items()]
    runs.append({"command": "all", **sum(counts.values(), Counter())})
    runs = [{"command": of["command"], **{k: of.get(k, 0) for k in COLUMNS}} for of in runs]
    seconds = round(time.perf_counter() - started)
    results = {
        "version": scmetaq.__version__,
        "seconds": seconds,
        "runs": runs,
        "problems": problems,
    }
    save(options, "kills", results, report(results))


def report(results):
    """A row per command."""
    rows = [[of["command"], *(str(of[name]) for name in COLUMNS)] for of in results["runs"]]
    heading = [
        "stopped",
        "killed",
        "Ctrl-C or SIGTERM",
        "earlier state",
        "new result",
        "anything else",
    ]
    return Report(table(heading, rows))


if __name__ == "__main__":
    main()
