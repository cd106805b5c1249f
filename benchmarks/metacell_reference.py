"""Metacells as the reference of SCPoli: labels of the cells of a batch that it has not seen.

usage: python benchmarks/metacell_reference.py --data DIR [--datasets ...] [--seeds 0 1 2]

With seed ``s`` the ``s``-th batch is the query. The reference is all cells of the other batches,
their metacells of ten cells of one batch (sums of counts), the same thinned to the median depth of
a cell, or as many random cells. The query is its cells or, ``> metacells``, metacells of about ten
cells, whose label is that of their cells. Runs that ``results/metacell_reference.json`` has are not
repeated, unless ``--again`` says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from _command_line import growing_command_line
from _embeddings import CPU
from _in_process import Key, with_missing
from _markdown import Report, save, table
from integration import BATCH, SETS
from quality import machine
from sklearn.metrics import f1_score

import scmetaq

NAMES: Final = ("dataset", "method", "seed")
METHODS: Final = (
    "cells",
    "metacells",
    "thinned metacells",
    "random cells",
    "metacells > metacells",
)
USED: Final = ("kang_pbmc_labelled_1267genes", "pbmc_3chemistries_1200_hvg")
PER_METACELL: Final = 10
LABEL: Final = "label"


def main() -> None:
    """Run what is missing, then write results and table."""
    args = growing_command_line(__doc__, USED, out="metacell_reference.json").parse_args()
    for records in with_missing(args.out, tasks(args), names=NAMES, again=args.again):
        results = {"machine": machine(), "runs": records}
        if records:
            save(args, "metacell_reference", results, report(results))


def tasks(args: Any) -> Iterator[tuple[Key, Callable[[], dict[str, float]]]]:
    """All runs, seed by seed."""
    for seed in args.seeds:
        for name in args.datasets:
            adata, labels = SETS[name].read(args.data)
            adata.obs[LABEL] = labels.astype(str)
            batches = adata.obs[BATCH].astype(str)
            is_query = (batches == sorted(batches.unique())[seed % batches.nunique()]).to_numpy()
            parts = adata[~is_query].copy(), adata[is_query].copy()
            for method in METHODS:
                yield (name, method, seed), partial(run, method, *parts, seed)


def run(
    method: str, reference: anndata.AnnData, query: anndata.AnnData, seed: int
) -> dict[str, float]:
    """How many cells of the query get their label."""
    scvi.settings.seed = seed
    started, truth = time.process_time(), query.obs[LABEL].astype(str).to_numpy()
    depth = int(np.median(np.asarray(reference.X.sum(axis=1))))
    if "metacells" in method:
        n_batches = reference.obs[BATCH].nunique()
        model = trained(reference, PER_METACELL * n_batches, batch_key=BATCH)
        reference = sums(model.get_metacells(within=[BATCH]))
    elif method == "random cells":
        n = reference.n_obs // PER_METACELL
        reference = reference[np.random.default_rng(seed).permutation(reference.n_obs)[:n]].copy()
    if method == "thinned metacells":
        sc.pp.downsample_counts(reference, counts_per_cell=depth, random_state=seed)
    reference = reference[:, np.asarray(reference.X.sum(0)).ravel() > 0].copy()
    scmetaq.SCPoli.setup_anndata(reference, batch_key=BATCH, labels_key=LABEL)
    scpoli = scmetaq.SCPoli(reference)
    scpoli.train(**CPU)
    metacell = None
    if method.endswith("> metacells"):
        model = trained(query, PER_METACELL)
        metacell = model.get_assignments()["metacell"].astype(str)
        query = sums(model.get_metacells())
    mapped = scmetaq.SCPoli.load_query_data(query, scpoli)
    mapped.train(**CPU)
    found = mapped.predict_labels()[LABEL].astype(str)
    predicted = found.to_numpy() if metacell is None else found.reindex(metacell).to_numpy()
    return {
        "n_reference": reference.n_obs,
        "accuracy": round(float((predicted == truth).mean()), 4),
        "macro_f1": round(float(f1_score(truth, predicted, average="macro")), 4),
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def trained(adata: anndata.AnnData, size: int, **setup: Any) -> scmetaq.MetaQModel:
    """Metacells of so many cells on average."""
    scmetaq.MetaQModel.setup_anndata(adata, **setup)
    model = scmetaq.MetaQModel(adata, cells_per_metacell=size)
    model.train(**CPU)
    return model


def sums(metacells: anndata.AnnData) -> anndata.AnnData:
    """Metacells with summed counts in ``X``."""
    counts = metacells.layers["counts"].astype(np.float32)
    return anndata.AnnData(counts, metacells.obs.copy(), metacells.var.copy())


def report(results: dict[str, Any]) -> Report:
    """Means over sets of medians over seeds."""
    runs = pd.DataFrame(results["runs"])
    lines = []
    for method in (name for name in METHODS if name in set(runs["method"])):
        rows = runs[runs["method"] == method]
        values = rows.drop(columns="method").groupby("dataset").median().mean()
        about = [method, str(rows["dataset"].nunique()), str(rows["seed"].nunique())]
        numbers = [f"{values['accuracy']:.3f}", f"{values['macro_f1']:.3f}"]
        size, seconds = f"{values['n_reference']:.0f}", f"{values['cpu_seconds']:.0f}"
        lines.append([*about, size, *numbers, seconds])
    heading = ["reference", "sets", "seeds", "observations", "accuracy", "macro F1", "CPU s"]
    return Report(table(heading, lines, n_text=1))


if __name__ == "__main__":
    main()
