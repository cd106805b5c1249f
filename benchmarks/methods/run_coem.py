"""COEM on RNA and chromatin, or its clustering alone on principal components of one of them.

usage: python run_coem.py INPUT.h5ad N_METACELLS SEED OUT.npy [--on latents]
"""

from __future__ import annotations

import argparse

import _shared
import anndata
import mudata
import numpy as np
import pandas as pd
import scvi
from _paired import by_modality
from run_kmeans_paired import reduced

import scmetaq


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Metacell of each cell."""
    scvi.settings.seed = args.seed
    parts = by_modality(adata)
    if args.on != "latents":
        scores = reduced(args.on, parts[args.on], args.seed)
        return scmetaq.tl.spectral_metacells(scores, args.n_metacells, seed=args.seed)
    mdata = mudata.MuData(parts)
    scmetaq.COEM.setup_mudata(mdata)
    model = scmetaq.COEM(mdata)
    model.train(accelerator="cpu", logger=False, enable_progress_bar=False)
    found = model.get_assignments(n_metacells=args.n_metacells, seed=args.seed)["metacell"]
    return pd.factorize(found.loc[adata.obs_names], sort=True)[0]


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument("--on", choices=["latents", "rna", "atac"], default="latents")
    args = parser.parse_args()
    _shared.run(f"coem-{args.on}", "scmetaq", assign, args)
