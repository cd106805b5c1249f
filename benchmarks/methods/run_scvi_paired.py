"""K-means on the latents of totalVI (RNA and proteins) or MultiVI (RNA and chromatin).

usage: python run_scvi_paired.py INPUT.h5ad N_METACELLS SEED OUT.npy [--epochs EPOCHS]

Both with the defaults of scvi-tools, on the counts of the 3,000 most variable genes and all
proteins or peaks, without batches; one k-means++ start on the latents.
"""

from __future__ import annotations

import argparse

import _shared
import anndata
import mudata
import numpy as np
import scvi
from _paired import by_modality
from sklearn.cluster import KMeans


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Cluster of each cell."""
    scvi.settings.seed = args.seed
    parts = by_modality(adata)
    rna = parts["rna"]
    parts["rna"] = rna[:, _shared.variable_genes(_shared.log_counts(rna))].copy()
    other = next(kind for kind in parts if kind != "rna")
    mdata = mudata.MuData(parts)
    layers = {"rna_layer": None, ("protein_layer" if other == "adt" else "atac_layer"): None}
    names = {name: "rna" if name == "rna_layer" else other for name in layers}
    if other == "adt":
        mdata["adt"].X = mdata["adt"].X.toarray()  # totalVI fits a mixture to dense proteins
        scvi.model.TOTALVI.setup_mudata(mdata, **layers, modalities=names)
        model = scvi.model.TOTALVI(mdata)
    else:
        scvi.model.MULTIVI.setup_mudata(mdata, **layers, modalities=names)
        sizes = {"n_genes": mdata["rna"].n_vars, "n_regions": mdata[other].n_vars}
        model = scvi.model.MULTIVI(mdata, **sizes)
    model.train(max_epochs=args.epochs, accelerator="cpu", enable_progress_bar=False)
    latents = model.get_latent_representation()
    return KMeans(args.n_metacells, n_init=1, random_state=args.seed).fit_predict(latents)


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument("--epochs", type=int, help="instead of the default of scvi-tools")
    _shared.run("scvi-kmeans", "scvi-tools", assign, parser.parse_args())
