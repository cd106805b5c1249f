"""Compare integrated embeddings by scIB's overall score: ours, scVI, scANVI, Harmony and PCA.

usage: python benchmarks/integration_score.py --data DIR [--datasets ...] [--seeds 0 1 2]

As Fig. 2a of scPoli's paper. With seed ``s`` the labels of the ``s``-th batch are hidden from the
methods that take labels, as in ``scpoli.py``; scores are of all cells that have one. Of a large
set 1,600 labelled cells are drawn. scVI and scANVI have scvi-tools' defaults but for the epochs of
scVI: 200 of 400, so that a CPU can train it. The scPoli of its authors learns from all batches but
the ``s``-th, which it then maps, and runs where ``--peers`` has its environment. Needs
``scib-metrics`` and ``harmonypy``. Runs that ``results/integration_score.json`` has are not
repeated, unless ``--again`` says so.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scvi
from _command_line import growing_command_line
from _datasets import UNLABELLED
from _embeddings import CPU, GIVEN, METHODS, principal_components, scvi_model
from _in_process import Key, with_missing
from _markdown import Report, save, table
from _methods import HERE
from integration import BATCH, SETS
from quality import machine
from scpoli import AUTHORS, by_authors, cells_of

from scmetaq import metrics

NAMES: Final = ("dataset", "method", "seed")
OURS: Final = ("scmetaq", "scpoli", "scpoli-labels")
SHOWN: Final = ("pca", "harmony", "scvi", "scanvi", AUTHORS, *OURS)
SCORES: Final = ("total", "bio_conservation", "batch_correction")
MOST_CELLS: Final = 1_600
MOST_EPOCHS: Final = 200


def main() -> None:
    """Run what is missing, then write results and table."""
    parser = growing_command_line(__doc__, SETS, out="integration_score.json")
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".peers")
    args = parser.parse_args()
    for records in with_missing(args.out, tasks(args), names=NAMES, again=args.again):
        results = {"machine": machine(), "runs": records}
        if records:
            save(args, "integration_score", results, report(results))


def tasks(args: Any) -> Iterator[tuple[Key, Callable[[], dict[str, float]]]]:
    """All runs, set by set; scANVI starts from the scVI of its set and seed."""
    for name in args.datasets:
        for seed in args.seeds:
            adata, labels, asked = drawn(name, seed, args)
            base = functools.cache(functools.partial(scvi_model, adata, seed, MOST_EPOCHS))
            mapped = functools.partial(by_authors, adata, asked, seed, peers=args.peers)
            for method in SHOWN:
                if method == AUTHORS and not (args.peers / "scarches").exists():
                    continue
                run = functools.partial(scored, method, adata, labels, seed, base, mapped)
                yield (name, method, seed), run


def drawn(name: str, seed: int, args: Any) -> tuple[anndata.AnnData, np.ndarray, str]:
    """Labelled cells of a set, at most :data:`MOST_CELLS`, their labels, and the batch without."""
    adata, asked = cells_of(SETS[name], seed, args.data)
    labels = SETS[name].read(args.data)[1]
    rows = np.flatnonzero(labels.notna())
    if len(rows) > MOST_CELLS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_CELLS, replace=False))
    cells = adata[rows].copy()
    cells = cells[:, np.asarray(cells.X.sum(0)).ravel() > 0].copy()
    return cells, labels.iloc[rows].to_numpy(str), asked


def scored(
    method: str,
    adata: anndata.AnnData,
    labels: np.ndarray,
    seed: int,
    base: Callable[[], scvi.model.SCVI],
    mapped: Callable[[Path], None],
) -> dict[str, float]:
    """Overall score of an embedding, its two parts, and the CPU time of the method."""
    started = time.process_time()
    if method == AUTHORS:
        z, seconds = latents_by_authors(mapped)
    else:
        z = latents(method, adata, seed, base)
        seconds = time.process_time() - started
    before = principal_components(adata, seed)
    found = metrics.integration_score(z, labels, adata.obs[BATCH].to_numpy(), unintegrated=before)
    return {
        **{name: round(float(found[name]), 4) for name in SCORES},
        "cpu_seconds": round(seconds, 1),
    }


def latents(
    method: str, adata: anndata.AnnData, seed: int, base: Callable[[], scvi.model.SCVI]
) -> np.ndarray:
    """Embedding of the cells, ``(n_cells, any)``."""
    if method == "scvi":
        return base().get_latent_representation()
    if method == "scanvi":
        model = scvi.model.SCANVI.from_scvi_model(base(), UNLABELLED, labels_key=GIVEN)
        model.train(**CPU)
        return model.get_latent_representation()
    z = METHODS[method](adata, seed).z
    assert z is not None
    return z


def latents_by_authors(mapped: Callable[[Path], None]) -> tuple[np.ndarray, float]:
    """Embedding by the authors' scPoli, and its CPU time."""
    with tempfile.TemporaryDirectory() as folder:
        mapped(Path(folder) / "found.npz")
        found = np.load(Path(folder) / "found.npz")
        return found["z"], float(found["cpu_seconds"])


def report(results: dict[str, Any]) -> Report:
    """Means over sets of medians over seeds, and a table per set."""
    runs = pd.DataFrame(results["runs"])
    sets = (f"## {name}\n\n{means(of)}" for name, of in runs.groupby("dataset", sort=False))
    return Report(means(runs), "\n\n".join(sets))


def means(runs: pd.DataFrame) -> str:
    """A row per method."""
    lines = []
    for method in (name for name in SHOWN if name in set(runs["method"])):
        rows = runs[runs["method"] == method]
        values = rows.groupby("dataset")[[*SCORES, "cpu_seconds"]].median().mean()
        lines.append(
            [
                method,
                str(rows["dataset"].nunique()),
                str(rows["seed"].nunique()),
                *(f"{values[name]:.3f}" for name in SCORES),
                f"{values['cpu_seconds']:.0f}",
            ]
        )
    heading = ["method", "sets", "seeds", *(name.replace("_", " ") for name in SCORES), "CPU s"]
    return table(heading, lines)


if __name__ == "__main__":
    main()
