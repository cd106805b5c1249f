"""Effect of each part of the latent, and of the clustering, on the quality of metacells.

usage: python benchmarks/ablation.py --data DIR [--datasets ...] [--seeds 0 1 2]

Codes are fitted to latents put together from the parts of the default recipe. The state is the
denoised one that the network is trained towards, so that no run takes longer than a clustering;
what the trained network reaches is in the table of ``quality.py``. Results go to
``results/ablation.json`` and, as a table, into the page on method development.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from _datasets import DATASETS, n_metacells, present
from _markdown import write_between
from _scores import scores
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from scmetaq import MetaQModel
from scmetaq.nn import cluster
from scmetaq.nn._inputs import nested

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "method_development.md"
BEGIN, END = "<!-- ablation:begin -->", "<!-- ablation:end -->"
SHOWN = {
    "purity": "purity",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "compactness": "compactness",
    "separation": "separation",
    "size_cv": "size CV",
}


def main() -> None:
    """Score every variant on every data set and seed, then write results and table."""
    args = command_line().parse_args()
    records = [
        {"dataset": dataset.name, "variant": name, "seed": seed} | scores(adata, found, labels)
        for dataset in present(args.datasets, args.data)
        for adata, labels in [dataset.read(args.data)]
        for name, seed, found in assignments(adata, args.seeds)
    ]
    frame = pd.DataFrame(records)
    args.out.write_text(json.dumps({"runs": records}, indent=1) + "\n")
    write_between(PAGE, BEGIN, END, table(frame))


def command_line() -> argparse.ArgumentParser:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--datasets", nargs="*", choices=list(DATASETS), default=list(DATASETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "ablation.json")
    return parser


def assignments(adata: anndata.AnnData, seeds: list[int]) -> Iterator[tuple[str, int, np.ndarray]]:
    """Name of the variant, seed and assignment, for all of them."""
    n_codes = n_metacells(adata.n_obs)
    parts = latent_parts(adata)
    both = np.hstack([parts["profile"], parts["state"]])
    variants: dict[str, tuple[np.ndarray, Callable[..., np.ndarray]]] = {
        "k-means on 50 PCs of log counts": (parts["log_pcs"], kmeans),
        "profile alone, k-means": (parts["profile"], kmeans),
        "profile alone": (parts["profile"], clustered),
        "state alone": (parts["state"], clustered),
        "profile and scores (not denoised)": (
            np.hstack([parts["profile"], parts["scores"]]),
            clustered,
        ),
        "profile and state, k-means": (both, kmeans),
        "profile and state": (both, clustered),
        "profile and state, best of three starts": (both, best_of_three),
        "**profile and state, even sizes** (default)": (both, evened),
    }
    for name, (latents, fit) in variants.items():
        for seed in seeds:
            yield name, seed, fit(latents.astype(np.float32), n_codes, seed)


def latent_parts(adata: anndata.AnnData) -> dict[str, np.ndarray]:
    """The parts of the latent, each of total variance one, and plain principal components."""
    MetaQModel.setup_anndata(adata)
    model = MetaQModel(adata, n_metacells=n_metacells(adata.n_obs))
    prepared = model._prepare()  # statistics and denoised states; no step is made
    inputs = nested(prepared.inputs, ["rna"])["rna"]
    counts = sp.csr_matrix(adata.X)[prepared.cells]
    features = model.module.parts["rna"].feature_scaling.features.numpy()
    scaled = counts[:, features].toarray() / (np.asarray(counts.sum(1)).reshape(-1, 1) / 1e4)
    return {
        "profile": inputs["profile"],
        "scores": inputs["scores"] / np.sqrt(inputs["scores"].var(0).sum()),
        "state": inputs["denoised_state"],
        "log_pcs": PCA(50, svd_solver="randomized", random_state=0).fit_transform(np.log1p(scaled)),
    }


def kmeans(latents: np.ndarray, n_codes: int, seed: int) -> np.ndarray:
    """Assignment by k-means from one start."""
    return KMeans(n_codes, n_init=1, random_state=seed).fit_predict(latents)


def clustered(latents: np.ndarray, n_codes: int, seed: int) -> np.ndarray:
    """Assignment of least quantization error, from one start."""
    return cluster(torch.from_numpy(latents), n_codes, seed=seed).assignment.numpy()


def evened(latents: np.ndarray, n_codes: int, seed: int) -> np.ndarray:
    """The same with even sizes, as in the default recipe."""
    z = torch.from_numpy(latents)
    return cluster(z, n_codes, evenness=0.2, seed=seed).assignment.numpy()


def best_of_three(latents: np.ndarray, n_codes: int, seed: int) -> np.ndarray:
    """Assignment of least quantization error from three starts."""
    z = torch.from_numpy(latents)
    found = [cluster(z, n_codes, seed=3 * seed + i) for i in range(3)]
    return min(found, key=lambda of: of.error).assignment.numpy()


def table(frame: pd.DataFrame) -> str:
    """Markdown: medians over seeds, averaged over data sets."""
    columns = list(SHOWN)
    medians = frame.groupby(["variant", "dataset"], sort=False)[columns].median()
    means = medians.groupby("variant", sort=False).mean()
    lines = [
        f"Medians over {frame['seed'].nunique()} seeds, averaged over "
        f"{frame['dataset'].nunique()} data sets; one metacell per 50 cells.",
        "",
        "| latent and fit of the codes | " + " | ".join(SHOWN.values()) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for name, row in means.iterrows():
        lines.append(f"| {name} | " + " | ".join(f"{row[c]:.4f}" for c in columns) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
