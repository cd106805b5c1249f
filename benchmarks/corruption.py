"""Damage files that commands read at random, and count how the commands end.

Writes ``results/corruption.json``. ``python benchmarks/corruption.py --n 240 [--kind h5ad]``
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

import scmetaq

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "cli"))

from corrupted import FORMS, trials  # noqa: E402
from forked import Forks  # noqa: E402


def cells():
    """200 cells and 400 genes of the demo data, and the same with proteins."""
    adata = scmetaq.data.demo()[:200, :400].copy()
    adata = adata[:, np.asarray((adata.X > 0).sum(0)).ravel() > 0].copy()
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    adata.obs["lane"] = pd.Categorical(np.array(["l1", "l2"])[np.arange(adata.n_obs) % 2])
    import mudata
    from anndata import AnnData

    counts = np.random.default_rng(0).poisson(5, (adata.n_obs, 6)).astype(np.float32) + 1
    adt = AnnData(counts, pd.DataFrame(index=adata.obs_names))
    mdata = mudata.MuData({"rna": adata.copy(), "adt": adt})
    mdata.obs["lane"] = adata.obs["lane"]
    return adata, mdata


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=240)
    parser.add_argument("--kind", action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "corruption.json")
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
                    if outcome not in ("refused", "same", "other data"):
                        odd.append([kind, told, outcome, said])
                        print(*odd[-1], flush=True)
                print(kind, dict(counts[kind]), flush=True)
        finally:
            forks.close()
    found = {
        "version": scmetaq.__version__,
        "n": sum(sum(of.values()) for of in counts.values()),
        "seconds": round(time.perf_counter() - started),
        "outcomes": {kind: dict(sorted(of.items())) for kind, of in counts.items()},
        "odd": odd,
    }
    options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
