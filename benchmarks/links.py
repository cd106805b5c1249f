"""Peak-gene links across metacells of different methods: one command from counts to a table.

usage: python benchmarks/links.py --data DIR [--methods ...] [--seeds 0 1 2]

Every gene is correlated with every peak near it (``scmetaq.tl.peak_gene_links``), across metacells
by each method of ``coem.py``, across as many random groups of cells, and across single cells. As in
``quality.py``, runs that the cache lacks are done first. Writes ``results/links.json`` and a table
of how many links there are and how many of them are negative.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import anndata
import mudata
import numpy as np
import pandas as pd
from _command_line import cache_folder, command_line, run_missing
from _datasets import LABEL
from _markdown import Report, save, table
from _paired import PairedDataset, prepare_all
from _runs import finished, with_kept
from _summary import number, over_seeds
from coem import METHODS as WITH_COEM
from coem import SETS
from quality import machine
from scipy.stats import false_discovery_control

from scmetaq import tl

RANDOM, CELLS = "random groups", "single cells"
COLUMNS: Final = {
    "pairs": ",.0f",
    "negative": ".1%",
    "median r": ".3f",
    "median r within 2 kb": ".3f",
    "p < .05": ",.0f",
    "negative at p < .05": ".1%",
    "FDR < 10 %": ",.0f",
    "negative at FDR < 10 %": ".1%",
}
"""Columns of the table, and how they are written."""


def main() -> int:
    """Run what is missing, correlate, write results and table."""
    args = command_line(__doc__, WITH_COEM, SETS, out="links.json", files="h5mu").parse_args()
    prepared = cache_folder(args) / "paired"
    datasets = prepare_all(args.datasets, args.data, prepared)
    done = run_missing(args, WITH_COEM, datasets, prepared)
    kept = json.loads(args.out.read_text())["runs"] if args.out.exists() else []
    known = {(r["dataset"], r["method"], r["seed"]) for r in kept}
    new = []
    for dataset in datasets:
        cells = with_places(dataset, args.data, prepared)
        for method, seed, assignment in assignments(dataset, args, prepared):
            key = (dataset.name, method, seed)
            if args.again or key not in known:
                print("links", *key, flush=True)
                names = dict(zip(("dataset", "method", "seed"), key, strict=True))
                new.append(names | summary(cells, assignment))
    records = with_kept(new, args.out, [*WITH_COEM, RANDOM, CELLS], SETS)
    rows = over_seeds(pd.DataFrame(records), COLUMNS)
    results = {"machine": machine(), "summary": rows, "runs": records} | done._asdict()
    save(args, "links", results, report(results))
    return 1 if done.failed else 0


def assignments(dataset: PairedDataset, args: Any, prepared: Path) -> Any:
    """Method, seed and metacell of each cell, of every run that there is."""
    for method in WITH_COEM.values():
        for run in finished(dataset, method, cache_folder(args)):
            yield method.name, run.seed, np.load(run.file(".npy"))
    n_cells = anndata.read_h5ad(dataset.path(prepared), backed="r").n_obs
    for seed in args.seeds:
        groups = np.arange(n_cells) % dataset.n_metacells(prepared)
        yield RANDOM, seed, np.random.default_rng(seed).permutation(groups)
    yield CELLS, 0, np.arange(n_cells)


def with_places(dataset: PairedDataset, folder: Path, prepared: Path) -> mudata.MuData:
    """The cells that methods saw, with the places of genes and peaks on the genome."""
    seen = anndata.read_h5ad(dataset.path(prepared), backed="r").obs_names
    mdata = mudata.read_h5mu(dataset.source(folder))
    parts = {kind: mdata[kind][seen].copy() for kind in ("rna", dataset.other)}
    for part in parts.values():
        part.obs = part.obs[[c for c in part.obs if c == LABEL]]
    return mudata.MuData(parts)


def summary(cells: mudata.MuData, assignment: np.ndarray) -> dict[str, float]:
    """What the links across metacells are like."""
    metacells = tl.aggregate(cells, pd.Series(assignment, cells.obs_names).astype(str))
    links = tl.peak_gene_links(metacells["rna"], metacells["atac"])
    is_negative, is_near = links["r"] < 0, links["distance"].abs() <= 2_000
    found = {
        "pairs": len(links),
        "negative": is_negative.mean(),
        "median r": links["r"].median(),
        "median r within 2 kb": links["r"][is_near].median(),
    }
    fdr = false_discovery_control(links["pvalue"])
    for name, chosen in (("p < .05", links["pvalue"] < 0.05), ("FDR < 10 %", fdr < 0.1)):
        found[name] = int(chosen.sum())
        found[f"negative at {name}"] = is_negative[chosen].mean() if chosen.any() else np.nan
    return {name: round(float(value), 4) for name, value in found.items()}


def report(results: dict[str, Any]) -> Report:
    """Medians over seeds."""
    lines = (
        [row["method"], str(len(row["seeds"])), *(number(row, *of) for of in COLUMNS.items())]
        for row in results["summary"]
    )
    return Report(table(["method", "seeds", *COLUMNS], lines, n_text=2))


if __name__ == "__main__":
    raise SystemExit(main())
