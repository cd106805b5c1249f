"""The scPoli of its authors (scArches): latents of all cells, and labels of one batch.

usage: python run_scpoli.py INPUT.h5ad QUERY SEED OUT.npz

``INPUT`` has counts, ``obs["batch"]`` and ``obs["given_label"]``, ``"Unknown"`` where missing. As
its authors' tutorial has it: a reference of all batches but ``QUERY`` is trained with prototypes,
``QUERY`` is mapped onto it with frozen weights and classified. Runs in an environment of its own.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import anndata
import numpy as np
import torch
from scarches.models.scpoli import scPoli

BATCH, GIVEN, UNLABELLED = "batch", "given_label", "Unknown"
STOP = {
    "early_stopping_metric": "val_prototype_loss",
    "mode": "min",
    "threshold": 0,
    "patience": 20,
    "reduce_lr": True,
    "lr_patience": 13,
    "lr_factor": 0.1,
}
EPOCHS = {"n_epochs": 50, "pretraining_epochs": 40, "early_stopping_kwargs": STOP}


def main() -> None:
    """Train, map, classify, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("input", type=Path)
    parser.add_argument("query")
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)  # noqa: NPY002  (what scArches draws from)
    adata = anndata.read_h5ad(args.input)
    adata.X = adata.X.toarray().astype(np.float32)
    is_query = (adata.obs[BATCH] == args.query).to_numpy()
    reference, query = adata[~is_query].copy(), adata[is_query].copy()
    started = time.process_time()
    model = scPoli(
        reference,
        condition_keys=BATCH,
        cell_type_keys=GIVEN,
        labeled_indices=np.flatnonzero(reference.obs[GIVEN] != UNLABELLED).tolist(),
        unknown_ct_names=[UNLABELLED],
        embedding_dims=5,
        recon_loss="nb",
    )
    model.train(**EPOCHS, eta=5)
    mapped = scPoli.load_query_data(adata=query, reference_model=model, labeled_indices=[])
    mapped.train(**EPOCHS, eta=10)
    found = mapped.classify(query)[GIVEN]
    z = np.empty((adata.n_obs, model.latent_dim_), np.float32)
    z[~is_query] = mapped.get_latent(reference, mean=True)
    z[is_query] = mapped.get_latent(query, mean=True)
    predicted = np.full(adata.n_obs, UNLABELLED, dtype=object)
    predicted[is_query] = found["preds"]
    seconds = time.process_time() - started
    np.savez(
        args.out,
        z=z,
        predicted=predicted.astype(str),
        unknown=np.empty(0),
        cpu_seconds=seconds,
    )


if __name__ == "__main__":
    main()
