"""scmetaq, by its default recipe or by the one its method was published with.

usage: python run_scmetaq.py INPUT.h5ad N_METACELLS SEED OUT.npy [--recipe published] [--epochs N]
"""

from __future__ import annotations

import argparse

import _shared
import anndata
import numpy as np
import pandas as pd
import scvi

import scmetaq


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Metacell of each cell."""
    scvi.settings.seed = args.seed
    scmetaq.MetaQModel.setup_anndata(adata, batch_key=args.batch_key)
    model = scmetaq.MetaQModel(adata, n_metacells=args.n_metacells, recipe=args.recipe)
    model.train(max_epochs=args.epochs, accelerator="cpu", logger=False, enable_progress_bar=False)
    return pd.factorize(model.get_assignments()["metacell"], sort=True)[0]


if __name__ == "__main__":
    parser = _shared.command_line(__doc__)
    parser.add_argument("--recipe", choices=["default", "published"], default="default")
    parser.add_argument("--batch-key", help="condition to take off; by default none")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    args = parser.parse_args()
    name = "scmetaq" if args.recipe == "default" else "scmetaq-published"
    _shared.run(name, "scmetaq", assign, args)
