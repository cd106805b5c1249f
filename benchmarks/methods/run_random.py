"""Cells dealt at random into N_METACELLS groups of equal size: the floor of every score.

usage: python run_random.py INPUT.h5ad N_METACELLS SEED OUT.npy
"""

from __future__ import annotations

import argparse

import _shared
import anndata
import numpy as np


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Number of the group each cell falls into."""
    return np.random.default_rng(args.seed).permutation(adata.n_obs) % args.n_metacells


if __name__ == "__main__":
    _shared.run("random", "numpy", assign, _shared.command_line(__doc__).parse_args())
