"""Does naming or seeking its genes keep a rare type: metacells with and without modules of genes.

usage: python benchmarks/rare_modules.py --data DIR [--datasets ...] [--seeds 0 1 2]

Types are made rare as in ``rare.py``. The module is the five genes that are detected in most more
cells of the type than of any other type, among the cells that are left out and all cells of other
types: what a list of known markers would be. Cells whose counts of the module are improbable for
their depth (Poisson, 5 % over the number of cells) are labelled, as in the guide, and held apart by
``label_weight=1``, or metacells are split by ``within``. Modules are also sought, without the
labels (:func:`sought`), and used in the same two ways. Runs that ``results/rare_modules.json`` has
are not repeated, unless ``--again`` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scvi
from _command_line import growing_command_line
from _datasets import DATASETS
from _in_process import Key, with_missing
from _markdown import Report, save, table
from quality import machine
from rare import TYPES, fate, subsample
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import poisson

import scmetaq

NAMES: Final = ("dataset", "method", "share", "seed")
METHODS: Final = (
    "no module",
    "label_weight=1",
    "within",
    "sought, label_weight=1",
    "sought, within",
)
SETS: Final = [name for name in TYPES if name != "pbmc_multibatch"]
SHARES: Final = (0.005, 0.002)
PER_METACELL: Final = 50
N_GENES: Final = 5
MARKED: Final = 0.001
"""Probability of a count, for the depth of its cell, below which the cell is marked by the gene."""
RARE: Final = 0.01
"""Share of the cells that a gene marks, or a module has, at most."""
MIN_GENES: Final = 3
MIN_CELLS: Final = 3
ALIKE: Final = 0.3
"""Mean correlation of the marks of two clusters of genes that are joined."""


def main() -> None:
    """Run what is missing, then write results and table."""
    args = growing_command_line(__doc__, SETS, out="rare_modules.json").parse_args()
    for records in with_missing(args.out, tasks(args), names=NAMES, again=args.again):
        results = {"machine": machine(), "runs": records}
        if records:
            save(args, "rare_modules", results, report(results))


def tasks(args: Any) -> Iterator[tuple[Key, Callable[[], dict[str, float]]]]:
    """All runs, seed by seed."""
    for seed in args.seeds:
        for name in args.datasets:
            adata, labels = DATASETS[name].read(args.data)
            for share in SHARES:
                cells = subsample(labels, TYPES[name], share, seed)
                chosen = adata[cells].copy()
                chosen.obs_names = [str(i) for i in range(chosen.n_obs)]
                module = markers(adata, labels, TYPES[name], cells)
                chosen = chosen[:, np.asarray(chosen.X.sum(0)).ravel() > 0].copy()
                chosen.obs["module"] = expressed(chosen, module)
                chosen.obs["sought"] = sought(chosen)
                named = labels.iloc[cells].astype(str)
                for method in METHODS:
                    of_run = (method, chosen, named, TYPES[name], seed)
                    yield (name, method, share, seed), partial(run, *of_run)


def markers(adata: anndata.AnnData, labels: pd.Series, rare: str, cells: np.ndarray) -> list[str]:
    """Genes that more cells of a type have than of any other; its ``cells`` are not looked at."""
    kept, of_type = labels.notna().to_numpy().copy(), (labels == rare).to_numpy()
    kept[cells[of_type[cells]]] = False
    is_there, kinds = (adata.X > 0)[kept], labels[kept].astype(str).to_numpy()
    share = pd.DataFrame(
        {kind: np.asarray(is_there[kinds == kind].mean(0)).ravel() for kind in np.unique(kinds)},
        adata.var_names,
    )
    lead = share[rare] - share.drop(columns=rare).max(axis=1)
    return lead.sort_values(ascending=False).index[:N_GENES].tolist()


def expressed(adata: anndata.AnnData, module: list[str]) -> np.ndarray:
    """Which cells have more counts of a module than chance gives a cell of their depth."""
    there = adata.var_names.isin(module)
    n, total = (np.asarray(of.X.sum(axis=1)).ravel() for of in (adata[:, there], adata))
    pvalue = poisson.sf(n - 1, total * n.sum() / total.sum())
    return np.where(pvalue < 0.05 / len(n), "module", "other")


def sought(adata: anndata.AnnData) -> np.ndarray:
    """Module of each cell, or "other": genes that mark few cells, and the same ones.

    A gene marks the cells whose count of it is improbable for their depth (Poisson). Genes with few
    marks are clustered by the correlation of their marks (average linkage). A cluster of enough
    genes is a module if few cells, but not too few, have more counts of it than chance gives.
    """
    X, n_cells = adata.X.tocoo(), adata.n_obs
    total, sums = (np.asarray(adata.X.sum(axis)).ravel() for axis in (1, 0))
    of_gene = total[X.row] * sums[X.col] / total.sum()
    is_mark = poisson.sf(X.data - 1, of_gene) < MARKED
    is_mark &= X.data >= 2
    rows, columns = X.row[is_mark], X.col[is_mark]
    n_marks, most = np.bincount(columns, minlength=adata.n_vars), RARE * n_cells
    genes = np.flatnonzero((n_marks >= MIN_CELLS) & (n_marks <= most))
    marks = np.zeros((n_cells, adata.n_vars), dtype=np.float32)
    marks[rows, columns] = 1
    r = np.corrcoef(marks[:, genes].T)
    genes = genes[(r > ALIKE).sum(axis=0) >= MIN_GENES]  # with itself
    if len(genes) < MIN_GENES:
        return np.full(n_cells, "other", dtype=object)
    distance = squareform(1 - np.corrcoef(marks[:, genes].T), checks=False)
    clusters = fcluster(linkage(distance, "average"), 1 - ALIKE, "distance")
    found = []
    for k in np.flatnonzero(np.bincount(clusters) >= MIN_GENES):
        names = adata.var_names[genes[clusters == k]].tolist()
        is_of = (expressed(adata, names) == "module") & (marks[:, genes[clusters == k]].sum(1) >= 2)
        if MIN_CELLS <= is_of.sum() <= most:
            found.append(is_of)
    module = np.full(n_cells, "other", dtype=object)
    for k, is_of in enumerate(sorted(found, key=np.sum, reverse=True)):
        module[is_of] = f"module {k}"  # of cells in two, the one with fewer cells
    return module


def run(
    method: str, adata: anndata.AnnData, labels: pd.Series, rare: str, seed: int
) -> dict[str, float]:
    """What became of the rare type, and how well the module finds it."""
    column = "sought" if method.startswith("sought") else "module"
    is_flagged = (adata.obs[column] != "other").to_numpy()
    weight, key = (1.0, column) if method.endswith("label_weight=1") else (0.0, None)
    scvi.settings.seed = seed
    scmetaq.MetaQModel.setup_anndata(adata, labels_key=key)
    model = scmetaq.MetaQModel(adata, round(adata.n_obs / PER_METACELL), label_weight=weight)
    model.train(accelerator="cpu", enable_progress_bar=False)
    within = [column] if method.endswith("within") else None
    found = pd.factorize(model.get_assignments(within=within)["metacell"], sort=True)[0]
    is_rare = (labels == rare).to_numpy()
    return {
        "drawn": f"seed {seed}",
        "n_flagged": int(is_flagged.sum()),
        "n_modules": adata.obs[column].nunique() - 1,
        "precision": round(float(is_rare[is_flagged].sum() / max(is_flagged.sum(), 1)), 4),
        "recall": round(float(is_flagged[is_rare].mean()), 4),
        **fate(found, labels, rare),
    }


def report(results: dict[str, Any]) -> Report:
    """Means over sets of medians over seeds; all methods in the seeds that all have; each set."""
    runs = pd.DataFrame(results["runs"])
    is_sought = runs["method"].str.startswith("sought")
    both = runs[runs["seed"].isin(runs["seed"][is_sought])]
    parts = [f"## Named and sought, the same seeds\n\n{means(both)}"] if is_sought.any() else []
    parts += [f"## {name}\n\n{means(of)}" for name, of in runs.groupby("dataset", sort=False)]
    return Report(means(runs[~is_sought]), "\n\n".join(parts))


def means(runs: pd.DataFrame) -> str:
    """A row per method and share of the type."""
    names = {
        "found": "found",
        "lowest": "found, worst seed",
        "recall": "type in the module's cells",
        "precision": "module's cells of the type",
        "per_asked": "metacells per asked",
        "accuracy": "accuracy",
        "size_cv": "size CV",
    }
    asked = runs["n_cells"] / PER_METACELL
    runs = runs.assign(lowest=runs["found"], per_asked=runs["n_metacells"] / asked)
    how = dict.fromkeys(names, "median") | {"lowest": "min"}
    lines = []
    for (share, method), rows in runs.groupby(["share", "method"], sort=False):
        values = rows.groupby("dataset").agg(how).mean()
        about = [f"{100 * share:g}%", method]
        about += [str(rows["dataset"].nunique()), str(rows["seed"].nunique())]
        lines.append([*about, *(f"{values[name]:.2f}" for name in names)])
    return table(["type", "method", "sets", "seeds", *names.values()], lines, n_text=2)


if __name__ == "__main__":
    main()
