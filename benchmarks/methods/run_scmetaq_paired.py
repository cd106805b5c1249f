"""scmetaq on two modalities, on one of them, or on both with gaps.

usage: python run_scmetaq_paired.py INPUT.h5ad N_METACELLS SEED OUT.npy [--use joint]

``mosaic`` takes the second modality from a random 30 % of the cells before anything else.
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

import scmetaq

MISSING = 0.3


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Metacell of each cell."""
    scvi.settings.seed = args.seed
    parts = by_modality(adata)
    other = next(kind for kind in parts if kind != "rna")
    if args.use == "mosaic":
        kept = np.random.default_rng(args.seed).random(adata.n_obs) >= MISSING
        parts[other] = parts[other][kept].copy()
    kinds = {"rna": ["rna"], "other": [other]}.get(args.use, ["rna", other])
    mdata = mudata.MuData({kind: parts[kind] for kind in kinds})
    scmetaq.MetaQModel.setup_mudata(mdata)
    weights = args.rna_weight and {"rna": args.rna_weight, other: 1 - args.rna_weight}
    model = scmetaq.MetaQModel(mdata, args.n_metacells, modality_weights=weights)
    model.train(accelerator="cpu", logger=False, enable_progress_bar=False)
    found = model.get_assignments()["metacell"].loc[adata.obs_names]
    return pd.factorize(found, sort=True)[0]


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument("--use", choices=["joint", "rna", "other", "mosaic"], default="joint")
    parser.add_argument(
        "--rna-weight", type=float, help="share of RNA in distances; by default estimated"
    )
    args = parser.parse_args()
    _shared.run(f"scmetaq-{args.use}", "scmetaq", assign, args)
