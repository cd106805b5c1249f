"""K-means on the latents of scVI: what a count autoencoder gives without a codebook.

usage: python run_scvi.py INPUT.h5ad N_METACELLS SEED OUT.npy [--epochs EPOCHS]

scVI with the defaults of scvi-tools on the counts of the 3,000 most variable genes, without
batches unless a key is given; one k-means++ start on its 10 latents.
"""

from __future__ import annotations

import argparse

import _shared
import anndata
import numpy as np
import scvi
from sklearn.cluster import KMeans


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Cluster of each cell."""
    scvi.settings.seed = args.seed
    cells = adata[:, _shared.variable_genes(_shared.log_counts(adata))].copy()
    scvi.model.SCVI.setup_anndata(cells, batch_key=args.batch_key)
    model = scvi.model.SCVI(cells)
    model.train(max_epochs=args.epochs, accelerator="cpu", logger=False, enable_progress_bar=False)
    latents = model.get_latent_representation()  # N x 10
    return KMeans(args.n_metacells, n_init=1, random_state=args.seed).fit_predict(latents)


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument("--batch-key", help="batches that scVI knows of; by default none")
    parser.add_argument("--epochs", type=int, help="instead of the default of scvi-tools")
    _shared.run("scvi-kmeans", "scvi-tools", assign, parser.parse_args())
