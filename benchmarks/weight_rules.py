"""Weight of RNA by the rules that were tried, on parts of the paired sets: no training, no labels.

usage: python benchmarks/weight_rules.py --data DIR [--datasets ...] [--seeds 0 1 2]

Each rule counts the dimensions of a modality from the scores that the model starts from; the weight
of RNA is its share of the sum. ``default`` is that of the package. Draws are those of
``subsamples.py``, which says what metacells are like by default.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import anndata
import mudata
import numpy as np
import pandas as pd
import torch
from _command_line import growing_command_line
from _in_process import Key, with_missing
from _markdown import Report, save, table
from _methods import HERE
from _paired import PAIRED, by_modality, prepare_all
from quality import machine
from subsamples import FEWEST, SHARES

import scmetaq
from scmetaq.model._reference_fit import _predicted_share, fit_statistics, shared_dimensions
from scmetaq.nn import neighborhood_mean

NAMES: Final = ("dataset", "share", "seed")
MOST: Final = 4_000
"""Cells that the rules are computed from."""


def participation(scores: np.ndarray) -> float:
    """Share of the variance that neighbours keep, times its effective number of dimensions."""
    some = torch.from_numpy(scores)
    smooth = neighborhood_mean(some, some)
    variances = torch.linalg.eigvalsh(torch.cov(smooth.T)).clamp_min(0)
    kept = variances.sum() / some.var(0).sum()
    return float(kept * variances.sum().square() / variances.square().sum())


def excess(scores: np.ndarray, power: float) -> float:
    """Sum over all axes of a power of the share that neighbours predict beyond chance."""
    permuted = np.random.default_rng(0).permuted(scores, axis=0)
    found = _predicted_share(scores) - _predicted_share(permuted)
    return float((found.clip(0) ** power).sum())


RULES: Final[dict[str, Callable[[np.ndarray], float]]] = {
    "participation ratio": participation,
    "share predicted": lambda scores: float(_predicted_share(scores).sum()),
    "excess": partial(excess, power=1),
    "root of excess": partial(excess, power=0.5),
    "log view": lambda scores: excess(scores[:, : scores.shape[1] // 2], 0.5),
    "default": lambda scores: shared_dimensions(scores, 0),
}


def main() -> None:
    """Compute what is missing, then write results and table."""
    parser = growing_command_line(__doc__, PAIRED, out="weight_rules.json", files="h5mu")
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".peers" / "paired")
    args = parser.parse_args()
    for records in with_missing(args.out, tasks(args), names=NAMES, again=args.again):
        results = {"machine": machine(), "runs": records}
        if records:
            save(args, "weight_rules", results, report(results))


def tasks(args: argparse.Namespace) -> Iterator[tuple[Key, Callable[[], dict[str, float]]]]:
    """Every draw, and how to compute its weights."""
    for dataset in prepare_all(args.datasets, args.data, args.cache):
        adata = anndata.read_h5ad(dataset.path(args.cache))
        for share in SHARES:
            for seed in args.seeds if share < 1 else args.seeds[:1]:
                if (n := round(share * adata.n_obs)) >= FEWEST:
                    drawn = np.random.default_rng(seed).choice(adata.n_obs, n, replace=False)
                    yield (dataset.name, share, seed), partial(weights, adata, np.sort(drawn))


def weights(adata: anndata.AnnData, cells: np.ndarray) -> dict[str, float]:
    """Weight of RNA by each rule."""
    part = adata[cells]
    parts = by_modality(part[:, np.asarray(part.X.sum(0)).ravel() > 0].copy())
    mdata = mudata.MuData(parts)
    scmetaq.MetaQModel.setup_mudata(mdata)
    model = scmetaq.MetaQModel(mdata, n_metacells=10)
    for kind, of_kind in parts.items():
        fit_statistics(model.module.parts[kind], kind, of_kind.X.tocsr())
    read = model._read_all(model._cells(model.adata))
    found: dict[str, float] = {}
    for name, rule in RULES.items():
        counts = {kind: rule(values["scores"][:MOST]) for kind, values in read.items()}
        found[name] = round(counts["rna"] / sum(counts.values()), 3)
    return found


def report(results: dict[str, list[dict[str, float]]]) -> Report:
    """Means over seeds."""
    runs = pd.DataFrame(results["runs"])
    mean = runs.groupby(["dataset", "share"], sort=False)[list(RULES)].mean()
    lines = [
        [str(name), f"{share:g}", *(f"{value:.2f}" for value in row)]
        for (name, share), row in zip(mean.index, mean.to_numpy(), strict=True)
    ]
    return Report(table(["data set", "share", *RULES], lines, n_text=2))


if __name__ == "__main__":
    main()
