"""Metacells by partial labels: what cells gain whose labels are not given, and what it costs.

usage: python benchmarks/partial_labels.py --data DIR

A fifth of the cells is held out: new cells, assigned without labels. Of the others a tenth, half or
all labels are given; scores are of the cells without one, by labels that the model has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from _command_line import growing_command_line
from _datasets import DATASETS, UNLABELLED, n_metacells
from _in_process import Key, with_missing
from _markdown import Report, save, table
from quality import machine

import scmetaq
from scmetaq import metrics

SETS: Final = (
    "pbmc_facs_sorted",
    "human_pdac_A_indrop",
    "mouse_endocrinogenesis_2000genes",
    "pbmc_multibatch",
)
GIVEN: Final = {"10%": 0.1, "50%": 0.5, "100%": 1.0}
WEIGHTS: Final = (0.0, 0.5, 1.0, 2.0)
SCORES: Final = {
    "purity": "purity",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "new": "accuracy of new cells",
    "new_balanced": "balanced accuracy of new cells",
    "all": "accuracy of all cells",
    "compactness": "compactness",
}
KEY: Final = "given"
NAMES: Final = ("dataset", "given", "weight", "seed")


def main() -> None:
    """Run what is missing; write results and table after each run."""
    args = growing_command_line(
        __doc__, DATASETS, out="partial_labels.json", default=SETS
    ).parse_args()
    for runs in filter(None, with_missing(args.out, tasks(args), names=NAMES, again=args.again)):
        results = {"machine": machine(), "runs": runs}
        save(args, "partial_labels", results, report(results))


def tasks(args: Any) -> Iterator[tuple[Key, Callable[[], dict[str, Any]]]]:
    """Every set, share of labels, weight and seed."""
    for name in args.datasets:
        for seed in args.seeds:
            for share in GIVEN:
                for weight in WEIGHTS:
                    key = (name, share, weight, seed)
                    yield key, partial(measured, args.data, name, GIVEN[share], weight, seed)


@lru_cache(maxsize=1)
def read(folder: Path, name: str) -> tuple[anndata.AnnData, pd.Series]:
    """Cells with log counts in a layer, and their labels."""
    adata, labels = DATASETS[name].read(folder)
    adata = anndata.AnnData(adata.X, obs=adata.obs[[]], var=adata.var[[]])
    logs = sc.pp.normalize_total(adata, target_sum=1e4, inplace=False)["X"]
    adata.layers["log"] = sc.pp.log1p(logs)
    return adata, labels


def measured(folder: Path, name: str, share: float, weight: float, seed: int) -> dict[str, Any]:
    """Scores of a model by some of the labels."""
    adata, labels = read(folder, name)
    rng = np.random.default_rng(seed)
    is_new = rng.random(adata.n_obs) < 0.2
    is_given = ~is_new & labels.notna().to_numpy() & (rng.random(adata.n_obs) < share)
    column = labels.where(is_given, UNLABELLED).astype(str).to_numpy()
    cells, new = (adata[of].copy() for of in (~is_new, is_new))
    cells.obs[KEY], new.obs[KEY] = column[~is_new], UNLABELLED
    scvi.settings.seed = seed
    options = {"labels_key": KEY, "unlabeled_category": UNLABELLED}
    scmetaq.MetaQModel.setup_anndata(cells, **options)
    model = scmetaq.MetaQModel(cells, n_metacells(cells.n_obs), label_weight=weight)
    model.train(1, accelerator="cpu", enable_progress_bar=False)  # metacells come before decoders
    own, of_new = (model.get_assignments(of)["metacell"] for of in (None, new))
    truth = labels[~is_new]
    hidden = (truth.notna() & ~is_given[~is_new]).to_numpy()
    scored = hidden if share < 1 else truth.notna().to_numpy()
    found = {
        "purity": metrics.purity(own[scored], truth[scored]).mean(),
        "accuracy": metrics.accuracy(own[scored], truth[scored]),
        "balanced_accuracy": metrics.balanced_accuracy(own[scored], truth[scored]),
        "all": metrics.accuracy(own, truth),
        "compactness": metrics.compactness(cells.layers["log"], own).mean(),
    }
    majority = truth.groupby(own.to_numpy()).agg(lambda of: of.mode().get(0))
    right = of_new.map(majority).to_numpy() == labels[is_new].to_numpy()
    right = pd.Series(right, of_new.index)[labels[is_new].notna()]
    found["new"] = right.mean()
    found["new_balanced"] = right.groupby(labels[right.index].to_numpy()).mean().mean()
    predicted = model.predict_labels()[KEY]
    found["predicted"] = (predicted == truth.astype(str))[scored].mean()
    return {score: round(float(value), 5) for score, value in found.items()}


def report(results: dict[str, Any]) -> Report:
    """A row per share and weight: medians over seeds, and in short means over sets of them."""
    runs = pd.DataFrame(results["runs"])
    columns = [*SCORES, "predicted"]
    of_sets = runs.groupby(["dataset", "given", "weight"], sort=False)[columns].median()
    whole = of_sets.groupby(["given", "weight"], sort=False).mean()
    sets = of_sets.index.get_level_values("dataset").unique()
    full = [f"## {name}\n\n{rows_of(of_sets.loc[name])}" for name in sets]
    n_seeds = runs.groupby(list(NAMES[:3])).size()
    note = f"Means over {len(sets)} sets of medians over {n_seeds.min()} seeds."
    return Report(f"{note}\n\n{rows_of(whole)}", "\n\n".join(full))


def rows_of(means: pd.DataFrame) -> str:
    """Table of means by share and weight."""
    heading = ["labels given", "label_weight", *SCORES.values(), "`predict_labels`"]
    rows = [
        [share, f"{weight:g}", *(f"{value:.3f}" for value in scores)]
        for (share, weight), scores in zip(means.index, means.to_numpy(), strict=True)
    ]
    return table(heading, rows)


if __name__ == "__main__":
    main()
