"""Data and scores of the benchmark of metacells within groups of cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from _datasets import LABEL, Dataset
from scipy.stats import kendalltau, pearsonr

from scmetaq import metrics, tl

CELLS_PER_METACELL: Final = 10
"""As in the paper's analysis of perturbations."""
GROUPS: Final = (LABEL, "batch")
"""Columns that metacells must not mix: cell type and sample, which is donor and treatment."""
TREATMENT: Final = "condition"
CONTROL: Final = "ctrl"
N_TOP: Final = 500
"""Genes whose ranks are compared: those that differ most between single cells."""
MIN_DETECTED: Final = 0.1
"""Share of cells, in one of the two groups compared, that a gene is found in."""


class GroupedDataset(Dataset):
    """Cells to be grouped ten by ten within each cell type and sample."""

    def n_metacells(self, folder: Path) -> int:
        """Metacells to ask for, of all groups together."""
        return sum(n_of_groups(self.read(folder)[0].obs).values())


def n_of_groups(obs: pd.DataFrame) -> dict[tuple[str, ...], int]:
    """Metacells to make in each group of cells: one per ten, at least one."""
    sizes = obs.groupby(list(GROUPS), observed=True).size()
    return {key: max(1, round(n / CELLS_PER_METACELL)) for key, n in sizes.items()}


def scores(adata: anndata.AnnData, assignment: np.ndarray) -> dict[str, float]:
    """How metacells agree with single cells on what differs, and how alike their cells are."""
    metacells = tl.aggregate(adata, assignment)
    cells, pieces = log_normalised(adata), log_normalised(metacells)
    sizes = metacells.obs["n_cells"]
    means = metrics.evaluate(adata, assignment).groupby("metric")["value"].mean()
    found = {
        "n_metacells": metacells.n_obs,
        "size_min": sizes.min(),
        "size_cv": sizes.std(ddof=0) / sizes.mean(),
        "mixed": sum(int((metacells.obs[f"{c}_fraction"] < 1).sum()) for c in GROUPS),
        "compactness": means["compactness"],
        "separation": means["separation"],
    }
    for name, comparisons in (("type", types), ("treatment", treatments)):
        pairs = [agreement(cells, pieces, one) for one in comparisons(adata.obs)]
        found |= {f"{key} {name}": np.mean([p[key] for p in pairs]) for key in pairs[0]}
    return {name: round(float(value), 6) for name, value in found.items()}


def types(obs: pd.DataFrame) -> Iterator[dict[str, tuple[str, list[str]]]]:
    """Each cell type against the others, among untreated cells: column and values kept."""
    names = sorted(obs[LABEL].unique())
    for name in names:
        yield {
            "among": (TREATMENT, [CONTROL]),
            "first": (LABEL, [name]),
            "second": (LABEL, [other for other in names if other != name]),
        }


def treatments(obs: pd.DataFrame) -> Iterator[dict[str, tuple[str, list[str]]]]:
    """Treated against untreated cells, in each cell type."""
    treated = sorted(set(obs[TREATMENT]) - {CONTROL})
    for name in sorted(obs[LABEL].unique()):
        yield {
            "among": (LABEL, [name]),
            "first": (TREATMENT, treated),
            "second": (TREATMENT, [CONTROL]),
        }


def agreement(
    cells: anndata.AnnData, metacells: anndata.AnnData, groups: dict[str, tuple[str, list[str]]]
) -> dict[str, float]:
    """Kendall's tau of the ranks of genes, and Pearson's r of their log fold changes."""
    of_cells, of_metacells = (compared(data, groups) for data in (cells, metacells))
    shown = of_cells.index[of_cells["detected"] >= MIN_DETECTED]
    one, other = of_cells.loc[shown], of_metacells.loc[shown]
    top = one["scores"].abs().nlargest(N_TOP).index
    return {
        "tau": kendalltau(one.loc[top, "scores"], other.loc[top, "scores"]).statistic,
        "r": pearsonr(one["logfoldchanges"], other["logfoldchanges"]).statistic,
    }


def compared(data: anndata.AnnData, groups: dict[str, tuple[str, list[str]]]) -> pd.DataFrame:
    """Wilcoxon's score and log fold change of each gene, and where more cells have it."""
    column, values = groups["among"]
    among = data[data.obs[column].isin(values)].copy()
    sides = {name: among.obs[groups[name][0]].isin(groups[name][1]) for name in ("first", "second")}
    among.obs["side"] = pd.Categorical(np.where(sides["first"], "first", "second"))
    sc.tl.rank_genes_groups(
        among, "side", groups=["first"], reference="second", method="wilcoxon", tie_correct=True
    )
    found = sc.get.rank_genes_groups_df(among, "first").set_index("names")
    shares = [np.asarray((among[of.to_numpy()].X > 0).mean(0)).ravel() for of in sides.values()]
    detected = pd.Series(np.max(shares, axis=0), among.var_names)
    return found.assign(detected=detected).loc[data.var_names]


def log_normalised(data: anndata.AnnData) -> anndata.AnnData:
    """A copy with log1p counts per 10k."""
    log = data.copy()
    sc.pp.normalize_total(log, target_sum=1e4)
    sc.pp.log1p(log)
    return log
