"""Labels by scANVI for the tasks of label transfer.

usage: python run_scanvi.py INPUT.h5ad SEED OUT.npz [--batch-key KEY] [--epochs N] [--types N]

scVI with its defaults on the 3,000 most variable genes is trained once, on all cells and without
labels; scANVI starts from it in every task. Of each split, with all types once, ``--types`` holds
out so many only, drawn by the seed, as a run for each takes time.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import _shared
import anndata
import numpy as np
import scvi
from _datasets import LABEL, UNLABELLED
from _transfer import Task, tasks

CPU = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}


def answer(base: scvi.model.SCVI, task: Task, names: np.ndarray, epochs: int) -> np.ndarray:
    """Probabilities of the types of query cells, with the names of the types as a first row."""
    given = np.where(task.reference, names, UNLABELLED)
    base.adata.obs["given"] = given
    model = scvi.model.SCANVI.from_scvi_model(base, UNLABELLED, labels_key="given")
    model.train(epochs, **CPU)
    return model.predict(soft=True).loc[task.query]


def drawn(every: list[Task], n_types: int | None, seed: int) -> list[Task]:
    """Of each split the task with all types, and so many of those without one."""
    rng, kept = np.random.default_rng(seed), list[Task]()
    for split in dict.fromkeys(task.split for task in every):
        whole, *without = [task for task in every if task.split == split]
        kept += [whole, *(without[i] for i in sorted(rng.permutation(len(without))[:n_types]))]
    return kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("input", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batch-key")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--fine-epochs", type=int, default=20)
    parser.add_argument("--types", type=int, help="types held out per split; by default all")
    args = parser.parse_args()
    scvi.settings.verbosity = logging.ERROR
    scvi.settings.seed = args.seed
    adata = anndata.read_h5ad(args.input)
    labels = adata.obs[LABEL].astype(object)
    labels = labels.where(labels != UNLABELLED, None).to_numpy()
    batches = adata.obs[args.batch_key].astype(str).to_numpy() if args.batch_key else None
    cells = adata[:, _shared.variable_genes(_shared.log_counts(adata))].copy()
    scvi.model.SCVI.setup_anndata(cells, batch_key=args.batch_key)
    base = scvi.model.SCVI(cells)
    base.train(args.epochs, **CPU)
    found: dict[str, np.ndarray] = {}
    for task in drawn(list(tasks(labels, batches, args.seed)), args.types, args.seed):
        shares = answer(base, task, labels.astype(str), args.fine_epochs)
        names = shares.columns.to_numpy().astype(str)
        found[f"{task.name}|labels"] = names[shares.to_numpy().argmax(1)]
        found[f"{task.name}|uncertainty"] = 1 - shares.to_numpy().max(1)
    np.savez(args.out, **found)
