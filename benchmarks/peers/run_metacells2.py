"""Metacells 2 (the ``metacells`` package) as in its one-pass vignette, aiming at N_METACELLS.

usage: python run_metacells2.py INPUT.h5ad N_METACELLS SEED OUT.npy [--size CELLS]

Metacells 2 cannot be given a number of metacells: it gets a target size, N_CELLS / N_METACELLS, and
makes as many as it sees fit, often more. Its second target, of total counts, is set to what that
many cells of median depth hold, so that the two ask for the same. Cells it calls outliers are -1.
"""

from __future__ import annotations

import argparse
import re

import _runner
import anndata
import metacells as mc
import numpy as np

# The hand-curated lists of the vignette belong to its own data set; these are their general part.
EXCLUDED_GENES = [r"XIST", r"MALAT1", r"NEAT1", r"MT-.*"]
LATERAL_GENES = [  # ribosome, cell cycle, stress
    r"RP[LS]\d.*",
    r"AURK[AB]|BIRC5|CENPF|HIST1H.*|HMGB2|MCM\d|MKI67|PCNA|RRM2|SMC4|STMN1|TOP2A|TPX2|TYMS",
    r"DNAJB1|DUSP1|FOSB?|HSP.*|IER2|JUN[BD]?|TXN",
]


def assign(adata: anndata.AnnData, args: argparse.Namespace) -> np.ndarray:
    """Metacell of each cell, -1 for outliers."""
    adata.X = adata.X.astype(np.float32)
    mc.ut.top_level(adata)
    mc.ut.set_name(adata, "cells")
    seed = args.seed + 1  # 0 would mean a random one
    mc.pl.exclude_genes(adata, excluded_gene_patterns=patterns(EXCLUDED_GENES), random_seed=seed)
    adata.obs["excluded_cell"] = False
    cells = mc.pl.extract_clean_data(adata)
    mc.pl.mark_lateral_genes(cells, lateral_gene_patterns=patterns(LATERAL_GENES))

    size = args.size or round(adata.n_obs / args.n_metacells)
    median_depth = np.median(np.asarray(cells.X.sum(axis=1)))
    mc.pl.set_max_parallel_piles(mc.pl.guess_max_parallel_piles(cells))
    mc.pl.divide_and_conquer_pipeline(
        cells,
        target_metacell_size=size,
        target_metacell_umis=round(size * median_depth),
        random_seed=seed,
    )
    return cells.obs["metacell"].to_numpy()


def patterns(names: list[str]) -> list[re.Pattern[str]]:
    """Whole-name patterns for human (upper case) and mouse (capitalised) symbols alike."""
    return [re.compile(name, re.IGNORECASE) for name in names]


if __name__ == "__main__":
    parser = _runner.command_line(__doc__)
    parser.add_argument("--size", type=int, help="target size, instead of N_CELLS / N_METACELLS")
    _runner.run("metacells2", "metacells", assign, parser.parse_args())
