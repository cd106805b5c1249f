"""Figures of MetaQ's paper on other data: classifiers trained on metacells, Harmony on metacells.

usage: python benchmarks/figures.py --data DIR [--datasets ...] [--seeds 0 1 2]

*Classifier* (Fig. 2b, d): a network learns labels from metacells and labels the cells; ``cells``
are as many random cells. *Harmony* (Fig. 4): metacells of each batch are integrated, and cells are
mapped into their space by ``tl.recover_embedding``; ``cells`` are integrated themselves. Runs that
``results/figures.json`` has are not repeated, unless ``--again`` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from _command_line import growing_command_line
from _datasets import DATASETS
from _in_process import Key, assign, with_missing
from _markdown import Report, save, table
from integration import BATCH
from integration import SETS as WITH_BATCHES
from quality import machine
from run_harmony import components, corrected
from sklearn.cluster import KMeans

import scmetaq
from scmetaq import metrics

NAMES: Final = ("figure", "dataset", "method", "cells_per_metacell", "seed")
LABELLED: Final = (
    "pbmc_facs_sorted",
    "pbmc3k",
    "mouse_endocrinogenesis_2000genes",
    "pbmc4k_scdcc_unnamed2000",
)
GRAINS: Final = (100, 50, 25)
CLASSIFIED: Final = ("scmetaq", "kmeans-pca-scaled", "kmeans-pca", "cells")
INTEGRATED: Final = ("cells", "scmetaq", "kmeans")
GRAIN: Final = 25
"""Cells per metacell that are integrated; those of a batch are few."""
SCORES: Final[dict[str, dict[str, bool]]] = {
    "classifier": {"accuracy": True, "balanced_accuracy": True},
    "harmony": {"ilisi": True, "clisi": True, "ami": True, "ari": True, "homogeneity": True},
}
"""Numbers by figure, and whether higher is better."""


def main() -> None:
    """Run what is missing, then write results and tables."""
    sets = [*dict.fromkeys([*LABELLED, *WITH_BATCHES])]
    args = growing_command_line(__doc__, sets, out="figures.json").parse_args()
    for records in with_missing(args.out, tasks(args), names=NAMES, again=args.again):
        results = {"machine": machine(), "runs": records}
        if records:
            save(args, "figures", results, report(results))


def tasks(args: Any) -> Iterator[tuple[Key, Callable[[], dict[str, Any]]]]:
    """All runs, set by set."""
    for name in args.datasets:
        adata, labels = DATASETS[name].read(args.data)
        known = labels.notna().to_numpy()
        adata, labels = adata[known].copy(), labels[known].astype(str)
        for seed in args.seeds:
            for grain in GRAINS if name in LABELLED else ():
                for method in CLASSIFIED:
                    key = ("classifier", name, method, grain, seed)
                    yield key, partial(classified, method, adata, labels, grain, seed)
            for method in INTEGRATED if name in WITH_BATCHES else ():
                key = ("harmony", name, method, GRAIN, seed)
                yield key, partial(integrated, method, adata, labels, seed)


def classified(
    method: str, adata: anndata.AnnData, labels: pd.Series, grain: int, seed: int
) -> dict[str, Any]:
    """Scores of a classifier trained on metacells, or on as many random cells."""
    n_metacells = round(adata.n_obs / grain)
    if method == "cells":
        found = np.full(adata.n_obs, -1)
        chosen = np.random.default_rng(seed).choice(adata.n_obs, n_metacells, replace=False)
        found[chosen] = np.arange(n_metacells)
    else:
        found = assign(method, adata, n_metacells, seed)
    return rounded(metrics.classifier_test(adata.X, found, labels.to_numpy(), seed=seed)._asdict())


def integrated(
    method: str, adata: anndata.AnnData, labels: pd.Series, seed: int
) -> dict[str, float]:
    """Scores of an embedding of the cells by Harmony on them, or on their metacells."""
    cells = adata.copy()
    if method == "cells":
        z = corrected(components(cells, seed), cells, BATCH, seed)
    else:
        cells.obs["metacell"] = within_batches(method, cells, seed)
        metacells = scmetaq.tl.aggregate(cells, "metacell")
        counts = anndata.AnnData(metacells.X, obs=metacells.obs)
        metacells.obsm["X_harmony"] = corrected(components(counts, seed), counts, BATCH, seed)
        z = scmetaq.tl.recover_embedding(cells, metacells, "X_harmony", seed=seed)
    latents = anndata.AnnData(obs=cells.obs, obsm={"X": z})
    sc.pp.neighbors(latents, use_rep="X", random_state=seed)
    sc.tl.leiden(latents, flavor="igraph", n_iterations=2, random_state=seed)
    agreement = metrics.agreement(latents.obs["leiden"], labels.loc[latents.obs_names])
    return rounded(
        {
            "ilisi": metrics.lisi(z, cells.obs[BATCH].astype(str).to_numpy()),
            "clisi": 1 - metrics.lisi(z, labels.to_numpy()),
            **{name: getattr(agreement, name) for name in ("ami", "ari", "homogeneity")},
        }
    )


def within_batches(method: str, cells: anndata.AnnData, seed: int) -> np.ndarray:
    """Metacells that mix no batches: pieces of one model's, or k-means in each batch."""
    n_metacells = round(cells.n_obs / GRAIN)
    if method == "scmetaq":
        own, n_batches = cells.copy(), cells.obs[BATCH].nunique()
        scvi.settings.seed = seed
        scmetaq.MetaQModel.setup_anndata(own, batch_key=BATCH)
        model = scmetaq.MetaQModel(own, max(10, n_metacells // n_batches))
        model.train(accelerator="cpu", enable_progress_bar=False)
        return model.get_assignments(within=BATCH)["metacell"].astype(str).to_numpy()
    found = np.empty(cells.n_obs, dtype=object)
    for batch, rows in cells.obs.groupby(BATCH, observed=True).indices.items():
        n = max(2, round(len(rows) / GRAIN))
        scores = components(cells[rows], seed)
        of_rows = KMeans(n, n_init=1, random_state=seed).fit_predict(scores)
        found[rows] = [f"{batch}:{of}" for of in of_rows]
    return found


def rounded(scores: dict[str, float]) -> dict[str, float]:
    """Scores with four digits."""
    return {name: round(float(value), 4) for name, value in scores.items()}


def report(results: dict[str, Any]) -> Report:
    """A table per figure: means over sets of medians over seeds."""
    runs = pd.DataFrame(results["runs"])
    short, full = [], []
    for figure, of_figure in runs.groupby("figure", sort=False):
        names = list(SCORES[str(figure)])
        short.append(f"*{str(figure).capitalize()}*:\n\n{means(of_figure, names)}")
        full += [
            f"## {str(figure).capitalize()}, {name}\n\n{means(of_set, names)}"
            for name, of_set in of_figure.groupby("dataset", sort=False)
        ]
    return Report("\n\n".join(short), "\n\n".join(full))


def means(runs: pd.DataFrame, names: list[str]) -> str:
    """A row per method and size."""
    lines = []
    for (grain, method), rows in runs.groupby(["cells_per_metacell", "method"], sort=False):
        medians = rows.groupby("dataset")[names].median().mean()
        about = [method, str(grain), str(rows["dataset"].nunique()), str(rows["seed"].nunique())]
        lines.append([*about, *(f"{value:.3f}" for value in medians)])
    heading = ["method", "cells per metacell", "sets", "seeds"]
    return table([*heading, *(name.replace("_", " ") for name in names)], lines, n_text=1)


if __name__ == "__main__":
    main()
