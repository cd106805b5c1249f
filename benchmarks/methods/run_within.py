"""scmetaq trained once, its metacells split by cell type and sample.

usage: python run_within.py INPUT.h5ad N_METACELLS SEED OUT.npy [--batch-key batch]

A model of half as many metacells is cut to a number whose pieces are nearest to N_METACELLS.
"""

from __future__ import annotations

import argparse

import _shared
import anndata
import numpy as np
import pandas as pd
import scvi
from _pure import GROUPS

import scmetaq


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Metacell of each cell."""
    scvi.settings.seed = args.seed
    scmetaq.MetaQModel.setup_anndata(adata, batch_key=args.batch_key)
    model = scmetaq.MetaQModel(adata, n_metacells=args.n_metacells // 2)
    model.train(accelerator="cpu", logger=False, enable_progress_bar=False)
    found = {}
    fewest, most = 2, model.n_metacells
    while fewest <= most:  # more metacells have more pieces, by and large
        n = (fewest + most) // 2
        found[n] = pieces(model, n)
        if found[n].nunique() > args.n_metacells:
            most = n - 1
        else:
            fewest = n + 1
    best = min(found, key=lambda n: abs(found[n].nunique() - args.n_metacells))
    return pd.factorize(found[best], sort=True)[0]


def pieces(model: scmetaq.MetaQModel, n_metacells: int) -> pd.Series:
    """Pieces of ``n_metacells`` metacells."""
    return model.get_assignments(n_metacells=n_metacells, within=list(GROUPS))["metacell"]


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument("--batch-key", help="condition to correct for; by default none")
    args = parser.parse_args()
    name = "scmetaq-within" if args.batch_key else "scmetaq-within-blind"
    _shared.run(name, "scmetaq", assign, args)
