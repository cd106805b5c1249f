"""Latents of all cells, for label transfer: scmetaq, scVI or principal components.

usage: python run_latents.py INPUT.h5ad SEED OUT.npy --model scmetaq [--batch-key KEY] [--epochs N]

With a batch key the model is trained on all cells and knows their batches; without one it is
trained on the random half of the cells that is the reference, and the others are new to it. Model
``mapped`` is scmetaq trained on all batches but one, which is then mapped onto it: OUT.npz has
latents by the name of that batch. No model sees a label.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import _shared
import anndata
import numpy as np
import scvi
from _transfer import half
from sklearn.decomposition import PCA

import scmetaq

CPU = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}


def of_scmetaq(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Latents of MetaQModel, N x 232."""
    cells = reference(adata, args)
    scmetaq.MetaQModel.setup_anndata(cells, batch_key=args.batch_key)
    model = scmetaq.MetaQModel(cells, max(2, round(cells.n_obs / 50)))
    model.train(args.epochs, **CPU)
    return model.get_latent_representation(adata)


def of_mapped(adata: anndata.AnnData, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Latents of MetaQModel per batch, N x 232, where this batch was mapped onto the others."""
    batches = adata.obs[args.batch_key].astype(str).to_numpy()
    found = {}
    for batch in np.unique(batches):
        is_query = batches == batch
        cells = adata[~is_query].copy()
        scmetaq.MetaQModel.setup_anndata(cells, batch_key=args.batch_key)
        model = scmetaq.MetaQModel(cells, max(2, round(cells.n_obs / 50)))
        model.train(args.epochs, **CPU)
        reference = model.get_latent_representation()
        query = scmetaq.MetaQModel.load_query_data(adata[is_query].copy(), model)
        query.train(accelerator="cpu", enable_progress_bar=False)
        found[batch] = np.empty((adata.n_obs, reference.shape[1]), np.float32)
        found[batch][~is_query] = reference
        found[batch][is_query] = query.get_latent_representation()
    return found


def of_scvi(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Latents of scVI with its defaults, N x 10."""
    cells = reference(adata, args)
    genes = _shared.variable_genes(_shared.log_counts(cells))
    cells, adata = cells[:, genes].copy(), adata[:, genes].copy()
    scvi.model.SCVI.setup_anndata(cells, batch_key=args.batch_key)
    model = scvi.model.SCVI(cells)
    model.train(args.epochs, **CPU)
    return model.get_latent_representation(adata)


def of_pca(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Principal components of log counts of variable genes, N x 50."""
    X = _shared.log_counts(adata)
    is_reference = np.ones(adata.n_obs, bool) if args.batch_key else half(adata.n_obs, args.seed)
    genes = _shared.variable_genes(X[is_reference])
    dense = X[:, genes].toarray()
    return PCA(50, random_state=args.seed).fit(dense[is_reference]).transform(dense)


def reference(adata: anndata.AnnData, args: argparse.Namespace) -> anndata.AnnData:
    """The cells to train on."""
    return adata.copy() if args.batch_key else adata[half(adata.n_obs, args.seed)].copy()


MODELS = {"scmetaq": of_scmetaq, "mapped": of_mapped, "scvi": of_scvi, "pca": of_pca}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("input", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=list(MODELS), required=True)
    parser.add_argument("--batch-key")
    parser.add_argument("--epochs", type=int)
    args = parser.parse_args()
    scvi.settings.verbosity = logging.WARNING
    scvi.settings.seed = args.seed
    started = time.process_time()
    latents = MODELS[args.model](anndata.read_h5ad(args.input), args)
    if isinstance(latents, dict):
        np.savez(args.out, **latents)
    else:
        np.save(args.out, latents.astype(np.float32))
    print(f"{time.process_time() - started:.1f} CPU s")
