"""Calibration of the uncertainty for cells unseen in training: one command from counts to a table.

usage: python benchmarks/new_cells.py --data DIR [--datasets ...] [--seeds 0 1 2]

A fifth of the cells, drawn at random, and all of one type, another one for each seed, are held out
of training. For cells of known types the uncertainty should be uniform, so that one in a hundred is
called unknown by default; cells of the new type should be called unknown. Compared with the
distance to 15 neighbours on principal components, whose threshold is the 99th percentile of the
training cells. Results of other seeds stay in ``results/new_cells.json``.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scvi
import torch
from _datasets import DATASETS, present
from _markdown import Report, save, table
from _methods import HERE
from _summary import means_table, number, over_seeds
from label_transfer import BATCH, BATCHES
from methods._shared import log_counts, variable_genes
from quality import machine
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import scmetaq

KEY: Final = "label"
Runs = Callable[[anndata.AnnData, str | None, int], list[dict[str, Any]]]
FEWEST: Final = 10
SHOWN: Final = {
    "median": "median",
    "above_90": "above .9",
    "unknown_known": "known types called unknown",
    "unknown_new": "the new type called unknown",
    "auroc": "AUROC of the new type",
}


def main() -> None:
    """Train, predict, write results and the table."""
    args = command_line(__doc__, DATASETS, out="new_cells.json").parse_args()
    grow(args, runs, "new_cells")


def grow(args: argparse.Namespace, runs: Runs, name: str) -> None:
    """Do what a results file lacks; after each data set and seed, write it and the table."""
    warnings.simplefilter("ignore")
    records = json.loads(args.out.read_text())["runs"] if args.out.exists() else []
    done = {(record["dataset"], record["seed"]) for record in records}
    for seed in args.seeds:
        for dataset in present(args.datasets, args.data):
            if (dataset.name, seed) in done:
                continue
            adata, labels = dataset.read(args.data)
            adata.obs[KEY] = labels.to_numpy()
            batch = BATCH if dataset.name in BATCHES else None
            about = {"dataset": dataset.name, "seed": seed}
            found = [about | record for record in runs(adata, batch, seed)]
            records += found
            print(*found, sep="\n", flush=True)
            write(records, args, name)
    write(records, args, name)


def command_line(description: str, datasets: Iterable[str], *, out: str) -> argparse.ArgumentParser:
    """Arguments of the command."""
    datasets = list(datasets)
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--datasets", nargs="*", choices=datasets, default=datasets)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "results" / out)
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    return parser


def runs(adata: anndata.AnnData, batch: str | None, seed: int) -> list[dict[str, Any]]:
    """Scores of each method on one split."""
    rng = np.random.default_rng(seed)
    sizes = adata.obs[KEY].value_counts()
    new_type = rng.choice(sorted(sizes.index[sizes >= FEWEST]))
    is_new = (adata.obs[KEY] == new_type).to_numpy()
    is_query = is_new | (rng.random(adata.n_obs) < 0.2)
    is_asked = is_query & adata.obs[KEY].notna().to_numpy()
    cells, query = adata[~is_query].copy(), adata[is_asked].copy()
    found = of_scmetaq(cells, query, batch, seed)
    found["15 neighbours on PCA"] = of_neighbors(cells, query)
    return [
        {"method": method, "new_type": str(new_type), **scores(u, is_new[is_asked])}
        for method, u in found.items()
    ]


def of_scmetaq(
    cells: anndata.AnnData, query: anndata.AnnData, batch: str | None, seed: int
) -> dict[str, np.ndarray]:
    """Uncertainty of the query, and on the scale of the cells that the model was trained on."""
    scvi.settings.seed = seed
    scmetaq.MetaQModel.setup_anndata(cells, labels_key=KEY, batch_key=batch)
    model = scmetaq.MetaQModel(cells, max(2, round(cells.n_obs / 50)))
    model.train(accelerator="cpu", logger=False, enable_progress_bar=False)
    uncertainty = model.predict_labels(query)[f"{KEY}_uncertainty"].to_numpy()
    z = torch.from_numpy(model.get_latent_representation(query))
    (prototypes,) = model.module.prototypes
    return {"scmetaq": uncertainty, "own scale": prototypes.nearest(z)[1].numpy()}


def of_neighbors(cells: anndata.AnnData, query: anndata.AnnData) -> np.ndarray:
    """Share of the training cells whose mean distance to their neighbours is smaller."""
    X = log_counts(cells)
    genes = variable_genes(X)
    pca = PCA(50, random_state=0).fit(X[:, genes].toarray())
    reference = pca.transform(X[:, genes].toarray())
    index = NearestNeighbors(n_neighbors=15).fit(reference)
    own = np.sort(index.kneighbors()[0].mean(1))
    asked = index.kneighbors(pca.transform(log_counts(query)[:, genes].toarray()))[0].mean(1)
    return np.searchsorted(own, asked) / len(own) + asked / (1e6 * own[-1])


def scores(uncertainty: np.ndarray, is_new: np.ndarray) -> dict[str, float]:
    """How the uncertainty is spread over known cells, and what is called unknown."""
    known = uncertainty[~is_new]
    found = {
        "median": np.median(known),
        "above_90": (known > 0.9).mean(),
        "unknown_known": (known > 0.99).mean(),
        "unknown_new": (uncertainty[is_new] > 0.99).mean(),
        "auroc": roc_auc_score(is_new, uncertainty),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def write(records: list[dict[str, Any]], args: argparse.Namespace, name: str) -> None:
    """Write the results so far."""
    rows = over_seeds(pd.DataFrame(records), SHOWN)
    results = {"machine": machine(), "summary": rows, "runs": records}
    save(args, name, results, report(results))


def report(results: dict[str, Any]) -> Report:
    """Means over data sets, and a row per data set and method."""
    rows = sorted(results["summary"], key=lambda row: row["dataset"])
    lines = (
        [row["dataset"], row["method"], str(len(row["seeds"])), *(number(row, n) for n in SHOWN)]
        for row in rows
    )
    full = table(["data set", "method", "seeds", *SHOWN.values()], lines, n_text=3)
    return Report(means_table(rows, SHOWN), full)


if __name__ == "__main__":
    main()
