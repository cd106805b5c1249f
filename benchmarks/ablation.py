"""Effect of each mechanism of the default recipe on the quality of metacells: left out, one by one.

usage: python benchmarks/ablation.py --data DIR [--datasets ...] [--seeds 0 1 2]

Mechanisms of the latent and of the clustering are left out of codes that are fitted to the denoised
states themselves; models predict these from the scores of each cell. Results go to
``results/ablation.json`` and, as a table, into the page on method development.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import scvi
import torch
from _datasets import DATASETS, n_metacells, present
from _markdown import write_between
from _scores import scores
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from scmetaq import MetaQModel
from scmetaq.data._reference import denoised_states
from scmetaq.nn import _clustering, cluster, neighborhood_mean
from scmetaq.nn._inputs import nested
from scmetaq.nn._linear_path import N_RANDOM
from scmetaq.nn._small_groups import set_groups_apart

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
    """Name of the row, seed and assignment, for all of them."""
    n_codes, parts = n_metacells(adata.n_obs), latent_parts(adata)
    profile, state = parts["profile"], parts["state"]
    both = [profile, state]
    fits: dict[str, tuple[list[np.ndarray], Callable[..., np.ndarray]]] = {
        "k-means on 50 PCs of log counts": ([parts["log_pcs"]], kmeans),
        "**denoised states and profile** (default)": (both, fitted),
        "without the profile": ([state], fitted),
        "without the state": ([profile], fitted),
        "states not denoised": ([profile, parts["scores"]], fitted),
        "states of logarithms alone": ([profile, parts["log"]], fitted),
        "states of square roots alone": ([profile, parts["sqrt"]], fitted),
        "axes not weighted by reliability": ([profile, parts["half"]], fitted),
        "these, of counts that are not scaled": ([profile, parts["unscaled"]], fitted),
        "these, of z-scores": ([profile, parts["z-scores"]], fitted),
        "k-means in place of all fits": (both, kmeans),
        "without split-and-merge": (both, without("split_and_merge", lloyd_alone)),
        "without exchange": (both, without("exchange", lambda z, assignment, *_, **__: assignment)),
        "without even sizes": (both, lambda *of: fitted(*of, evenness=0.0)),
        "without codes for small groups": (
            both,
            lambda *of: fitted(*of, then=lambda _, found: found),
        ),
    }
    for name, (latents, fit) in fits.items():
        z = np.hstack(latents).astype(np.float32)
        for seed in seeds:
            yield name, seed, fit(z, n_codes, seed)
    for name, n_random in (("**model** (default)", N_RANDOM), ("states of a linear map", 0)):
        for seed in seeds:
            with mock.patch("scmetaq.model._reference_fit.N_RANDOM", n_random):
                yield name, seed, trained(adata, n_codes, seed)


def latent_parts(adata: anndata.AnnData) -> dict[str, np.ndarray]:
    """Parts of the latent, and what they would be without a mechanism, of total variance one."""
    MetaQModel.setup_anndata(adata)
    model = MetaQModel(adata, n_metacells=n_metacells(adata.n_obs))
    prepared = model._prepare()  # statistics and denoised states; no step is made
    inputs = nested(prepared.inputs, ["rna"])["rna"]
    counts = sp.csr_matrix(adata.X)[prepared.cells]
    part = model.module.parts["rna"]
    scaled = counts.multiply(1e4 / counts.sum(1)).tocsr()
    views = [
        transform(scaled[:, axes.features.numpy()].toarray())
        for transform, axes in ((np.log1p, part.linear_path.log), (np.sqrt, part.linear_path.sqrt))
    ]
    scores = inputs["scores"]
    n_scores = scores.shape[1] // 2
    return {
        "profile": inputs["profile"],
        "state": denoised(inputs["scores"] / np.sqrt(2)),
        "scores": scores / np.sqrt(scores.var(0).sum()),
        "log": denoised(scores[:, :n_scores]),
        "sqrt": denoised(scores[:, n_scores:]),
        "log_pcs": principal_components(views[0]),
        **{
            name: denoised(
                np.hstack([principal_components(v / v.std(0).clip(1e-6) ** power) for v in views])
            )
            for name, power in (("half", 0.5), ("unscaled", 0.0), ("z-scores", 1.0))
        },
    }


def principal_components(values: np.ndarray) -> np.ndarray:
    """Fifty of them, of total variance one."""
    found = PCA(50, svd_solver="randomized", random_state=0).fit_transform(values)
    return (found / np.sqrt(found.var(0).sum())).astype(np.float32)


def denoised(scores: np.ndarray) -> np.ndarray:
    """States as the default recipe makes them of scores."""
    z = torch.from_numpy(np.ascontiguousarray(scores))
    smooth = neighborhood_mean(z, z).numpy()
    return denoised_states(smooth, 32)


def kmeans(latents: np.ndarray, n_codes: int, seed: int) -> np.ndarray:
    """Assignment by k-means from one start."""
    return KMeans(n_codes, n_init=1, random_state=seed).fit_predict(latents)


def fitted(
    latents: np.ndarray,
    n_codes: int,
    seed: int,
    *,
    evenness: float = 0.2,
    then: Callable[..., Any] = set_groups_apart,
) -> np.ndarray:
    """Assignment to codes that are fitted as in the default recipe."""
    z = torch.from_numpy(latents)
    return then(z, cluster(z, n_codes, seed=seed, evenness=evenness)).assignment.numpy()


def without(step: str, replacement: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """A fit in which something else takes the place of a step of the clustering."""

    def fit(latents: np.ndarray, n_codes: int, seed: int) -> np.ndarray:
        known = getattr(_clustering, step)
        setattr(_clustering, step, replacement)
        try:
            return fitted(latents, n_codes, seed)
        finally:
            setattr(_clustering, step, known)

    return fit


def lloyd_alone(z: torch.Tensor, assignment: torch.Tensor, n_codes: int) -> Any:
    """K-means in place of split-and-merge."""
    return _clustering.lloyd(z, assignment, n_codes, max_passes=100)


def trained(adata: anndata.AnnData, n_codes: int, seed: int) -> np.ndarray:
    """Assignment by a trained model."""
    scvi.settings.seed = seed
    MetaQModel.setup_anndata(adata)
    model = MetaQModel(adata, n_metacells=n_codes)
    model.train(accelerator="cpu", enable_progress_bar=False)
    return pd.factorize(model.get_assignments()["metacell"])[0]


def table(frame: pd.DataFrame) -> str:
    """Markdown: medians over seeds, averaged over data sets."""
    columns = list(SHOWN)
    medians = frame.groupby(["variant", "dataset"], sort=False)[columns].median()
    means = medians.groupby("variant", sort=False).mean()
    lines = [
        f"Medians over {frame['seed'].nunique()} seeds, averaged over "
        f"{frame['dataset'].nunique()} data sets; one metacell per 50 cells.",
        "",
        "| codes fitted to | " + " | ".join(SHOWN.values()) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for name, row in means.iterrows():
        lines.append(f"| {name} | " + " | ".join(f"{row[c]:.4f}" for c in columns) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
