"""Co-expression across metacells: correlation of marker genes within and between modules.

usage: python benchmarks/coexpression.py --data DIR [--seeds 0 1 2]

Pearson's correlation of log1p counts per 10k across single cells, across metacells of this package
and across as many random groups of cells. Markers of one type are a module, whose genes should go
together; genes of two modules should not. Random pairs of expressed genes show how much of a
correlation any two genes have.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from _command_line import growing_command_line
from _datasets import CELLS_PER_METACELL, DATASETS
from _markdown import Report, save, table
from _summary import number, over_seeds

import scmetaq

MODULES: Final = {
    "B cells": ("CD79A", "CD79B", "MS4A1"),
    "cytotoxic cells": ("NKG7", "GNLY", "PRF1"),
    "monocytes": ("S100A8", "S100A9", "LYZ"),
}
"""Markers that nobody disputes."""
FAINT: Final = (
    ("TCL1A", "LINC00926", "VPREB3"),
    ("CD8A", "CD8B", "GZMK"),
    ("FCER1A", "CLEC10A", "CD1C"),
    ("LILRA4", "IL3RA", "CLEC4C"),
    ("PF4", "PPBP", "GNG11"),
)
"""Markers of few counts or few cells: of B cells, CD8 T cells, two dendritic types, platelets."""
N_RANDOM: Final = 500
"""Genes of the random pairs, of those found in at least a twentieth of the cells."""
COLUMNS: Final = {
    "observations": ",.0f",
    "within, mean": ".2f",
    "within, lowest": ".2f",
    "within, faint markers, mean": ".2f",
    "between, mean": ".2f",
    "between, highest": ".2f",
    "random pairs above .5": ".1%",
}
"""Columns of the table, and how they are written."""


def main() -> None:
    """Correlate, then write results and table."""
    args = growing_command_line(__doc__, ["pbmc3k"], out="coexpression.json").parse_args()
    runs = [
        {"dataset": name, "method": method, "seed": seed} | correlations(values, genes)
        for name in args.datasets
        for cells, genes in [read(name, args)]
        for method, seed, values in observations(cells, args.seeds)
    ]
    results = {"summary": over_seeds(pd.DataFrame(runs), COLUMNS), "runs": runs}
    save(args, "coexpression", results, report(results))


def read(name: str, args: Any) -> tuple[anndata.AnnData, list[str]]:
    """Cells, and the genes of random pairs."""
    cells, _ = DATASETS[name].read(args.data)
    share = np.asarray((cells.X > 0).mean(0)).ravel()
    expressed = cells.var_names[share >= 0.05]
    return cells, sorted(np.random.default_rng(0).choice(expressed, N_RANDOM, replace=False))


def observations(cells: anndata.AnnData, seeds: list[int]) -> Any:
    """Method, seed and counts of each observation."""
    yield "single cells", 0, cells
    n_metacells = round(cells.n_obs / CELLS_PER_METACELL)
    for seed in seeds:
        scvi.settings.seed = seed
        adata = cells.copy()
        scmetaq.MetaQModel.setup_anndata(adata)
        model = scmetaq.MetaQModel(adata, n_metacells)
        model.train(accelerator="cpu", enable_progress_bar=False)
        yield "scmetaq", seed, model.get_metacells()
    for seed in seeds:
        groups = np.random.default_rng(seed).permutation(np.arange(cells.n_obs) % n_metacells)
        yield "random groups", seed, scmetaq.tl.aggregate(cells, groups)


def correlations(counts: anndata.AnnData, genes: list[str]) -> dict[str, float]:
    """Correlations within modules, between modules and of random pairs."""
    log = counts.copy()
    sc.pp.normalize_total(log, target_sum=1e4)
    sc.pp.log1p(log)
    markers = [(module, gene) for module, of in MODULES.items() for gene in of]
    r = log[:, [gene for _, gene in markers]].to_df().corr()
    pairs = list(itertools.combinations(markers, 2))
    within = [r.loc[a, b] for (one, a), (other, b) in pairs if one == other]
    between = [r.loc[a, b] for (one, a), (other, b) in pairs if one != other]
    table_of_faint = log[:, list(itertools.chain(*FAINT))].to_df().corr()
    faint = [table_of_faint.loc[pair] for of in FAINT for pair in itertools.combinations(of, 2)]
    any_two = np.corrcoef(log[:, genes].to_df().T)[np.triu_indices(len(genes), 1)]
    numbers = (
        log.n_obs,
        *(np.mean(within), min(within), np.mean(faint)),
        *(np.mean(between), max(between)),
        np.nanmean(any_two > 0.5),
    )
    return {name: round(float(of), 4) for name, of in zip(COLUMNS, numbers, strict=True)}


def report(results: dict[str, Any]) -> Report:
    """Medians over seeds."""
    lines = (
        [row["method"], str(len(row["seeds"])), *(number(row, *of) for of in COLUMNS.items())]
        for row in results["summary"]
    )
    return Report(table(["across", "seeds", *COLUMNS], lines, n_text=2))


if __name__ == "__main__":
    main()
