"""What embeddings of samples recover: one command from counts to a table.

usage: python benchmarks/samples.py --data DIR [--seeds 0 1 2]

The four samples of ``kang_pbmc_labelled_1267genes``, two donors with and without interferon, are
divided at random into sixteen parts, which are the conditions of a model. Do its embeddings
recover the sample of a part, and the treatment? Compared with principal components of pseudobulks,
mean log1p counts per 10k of the cells of a part. Writes ``results/samples.json`` and the README.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from _markdown import Report, save, table
from _methods import HERE
from _summary import number, spread
from quality import machine
from sklearn.metrics import silhouette_score

import scmetaq

DATASET: Final = "kang_pbmc_labelled_1267genes"
N_PARTS: Final = 4
N_METACELLS: Final = 31
SHOWN: Final = {
    "variance": "variance in PC1",
    "treatment": "adjusted R² of PC1, treatment",
    "sample": "accuracy, true sample",
    "silhouette treatment": "silhouette, treatment",
    "silhouette sample": "silhouette, true sample",
}


def main() -> None:
    """Train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "samples.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    args = parser.parse_args()
    adata = anndata.read_h5ad(args.data / f"{DATASET}.h5ad")
    runs = [run for seed in args.seeds for run in judged(adata, seed)]
    rows = [
        {"method": method, "seeds": args.seeds, **{name: spread(of[name]) for name in SHOWN}}
        for method, of in pd.DataFrame(runs).groupby("method", sort=False)
    ]
    results = {"machine": machine(), "dataset": DATASET, "summary": rows, "runs": runs}
    save(args, "samples", results, report(results))


def judged(adata: anndata.AnnData, seed: int) -> list[dict[str, Any]]:
    """Scores of embeddings and of pseudobulks of the same parts."""
    cells = adata.copy()
    part = np.random.default_rng(seed).integers(0, N_PARTS, cells.n_obs).astype(str)
    cells.obs["part"] = pd.Categorical(cells.obs["batch"].astype(str) + "_" + part)
    scvi.settings.seed = seed
    scmetaq.MetaQModel.setup_anndata(cells, batch_key="part")
    model = scmetaq.MetaQModel(cells, n_metacells=N_METACELLS)
    model.train(accelerator="cpu", logger=False, enable_progress_bar=False)
    embeddings = model.get_condition_embeddings()["part"]
    return [
        {"method": method, "seed": seed, **scores(samples)}
        for method, samples in (
            ("embeddings", embeddings),
            ("pseudobulks", pseudobulks(adata, cells.obs["part"], embeddings.obs)),
        )
    ]


def pseudobulks(adata: anndata.AnnData, part: pd.Series, obs: pd.DataFrame) -> anndata.AnnData:
    """Mean log1p counts per 10k of the cells of each part, with components."""
    log = adata.copy()
    sc.pp.normalize_total(log, target_sum=1e4)
    sc.pp.log1p(log)
    means = log.to_df().groupby(part.astype(str)).mean().loc[obs.index]
    samples = anndata.AnnData(means.to_numpy(), obs=obs, var=adata.var)
    sc.pp.pca(samples, n_comps=10, svd_solver="full")
    return samples


def scores(samples: anndata.AnnData) -> dict[str, float]:
    """How samples lie to each other."""
    of_first = scmetaq.tl.covariate_association(samples, "condition").iloc[0]
    found_labels = scmetaq.tl.classify_conditions(samples, "batch", n_neighbors=3, use_rep="X_pca")
    space = samples.obsm["X_pca"]
    found = {
        "variance": samples.uns["pca"]["variance_ratio"][0],
        "treatment": of_first["adjusted_r2"],
        "sample": (found_labels["label"] == found_labels["predicted"]).mean(),
        "silhouette treatment": silhouette_score(space, samples.obs["condition"]),
        "silhouette sample": silhouette_score(space, samples.obs["batch"]),
    }
    return {name: round(float(value), 6) for name, value in found.items()}


def report(results: dict[str, Any]) -> Report:
    """Medians over seeds."""
    lines = (
        [row["method"], str(len(row["seeds"])), *(number(row, name) for name in SHOWN)]
        for row in results["summary"]
    )
    return Report(table(["samples by", "seeds", *SHOWN.values()], lines, n_text=2))


if __name__ == "__main__":
    main()
