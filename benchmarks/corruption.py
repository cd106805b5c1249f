"""Damage files that commands read at random, and count how the commands end.

usage: python benchmarks/corruption.py [--n 270] [--kind h5ad]

A bit is flipped, a file is cut, a span is set to zero, or two spans are swapped.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
from _markdown import Report, save, table
from anndata import AnnData

import scmetaq

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "cli"))

from corrupted import FORMS, trials  # noqa: E402
from forked import Forks  # noqa: E402

ENDS = ("refused", "same", "other data")
"""How a command may end; the last of files that are whole as far as their format can know."""


def cells():
    """200 cells and 400 genes of the demo data, and the same with proteins."""
    adata = scmetaq.data.demo()[:200, :400].copy()
    adata = adata[:, np.asarray((adata.X > 0).sum(0)).ravel() > 0].copy()
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    adata.obs["lane"] = pd.Categorical(np.array(["l1", "l2"])[np.arange(adata.n_obs) % 2])
    counts = np.random.default_rng(0).poisson(5, (adata.n_obs, 6)).astype(np.float32) + 1
    adt = AnnData(counts, pd.DataFrame(index=adata.obs_names))
    mdata = mudata.MuData({"rna": adata.copy(), "adt": adt})
    mdata.obs["lane"] = adata.obs["lane"]
    return adata, mdata


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=270)
    parser.add_argument("--kind", action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "corruption.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    options = parser.parse_args()
    counts, odd, started = {}, [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        forks = Forks(Path(folder))
        try:
            all_trials = trials(forks, forks.folder, *cells(), options.kind)
            n_each = -(-options.n // len(all_trials))
            for kind, trial in all_trials.items():
                for i in range(n_each):
                    told, outcome, said = trial.damaged(FORMS[i % 4], [options.seed, i])
                    counts.setdefault(kind, Counter())[outcome.split(" (")[0]] += 1
                    if outcome not in ENDS:
                        odd.append([kind, told, outcome, said])
                        print(*odd[-1], flush=True)
                print(kind, dict(counts[kind]), flush=True)
        finally:
            forks.close()
    runs = [
        {"file": kind, "n": n_each, **{of: found[of] for of in ENDS}}
        for kind, found in counts.items()
    ]
    for run, kind in zip(runs, counts, strict=True):
        run["others"] = sum(of[0] == kind for of in odd)
    runs.append({"file": "all", **{k: sum(of[k] for of in runs) for k in list(runs[0])[1:]}})
    seconds = round(time.perf_counter() - started)
    results = {"version": scmetaq.__version__, "seconds": seconds, "runs": runs, "odd": odd}
    save(options, "corruption", results, report(results))


def report(results):
    """A row per kind of file."""
    heading = [
        "file",
        "damaged",
        "one clear error",
        "right result",
        "other content",
        "anything else",
    ]
    columns = ["n", *ENDS, "others"]
    rows = [[of["file"], *(str(of[name]) for name in columns)] for of in results["runs"]]
    return Report(table(heading, rows))


if __name__ == "__main__":
    main()
