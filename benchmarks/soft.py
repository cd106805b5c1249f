"""Weights of soft assignments against what another sample of the same counts is assigned to.

usage: python benchmarks/soft.py --data DIR

Counts are split into halves. The factor of the weights is that by which those of one half give the
metacells of the other half the largest mean log-likelihood; all of these sets chose it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import scipy.sparse as sp
import scvi
import torch
from _datasets import CELLS_PER_METACELL, DATASETS
from _markdown import Report, save, table
from _methods import HERE

import scmetaq

SETS: Final = ("pbmc3k", "pbmc4k_scdcc_unnamed2000", "pbmc_facs_sorted")
FACTORS: Final = (4, 8, 12, 16, 24, 32)
FEWEST: Final = 20
"""Counts of a half, below which a cell is left out."""


def main() -> None:
    """Measure all sets, then write results and table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "soft.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    args = parser.parse_args()
    results = {"runs": [{"dataset": name} | measured(name, args.data) for name in SETS]}
    save(args, "soft", results, report(results))


def measured(name: str, data: Path) -> dict[str, Any]:
    """Likelihood by factor, share of cells whose halves meet, and mean of the largest weight."""
    adata, _ = DATASETS[name].read(data)
    cells = anndata.AnnData(sp.csr_matrix(adata.X, dtype=np.float32))
    first = cells.X.copy()
    first.data = np.random.default_rng(1).binomial(first.data.astype(int), 0.5).astype(np.float32)
    halves = [first, sp.csr_matrix(cells.X - first)]
    deep = np.min([np.asarray(half.sum(1)).ravel() for half in halves], 0) >= FEWEST
    scvi.settings.seed = 0
    scmetaq.MetaQModel.setup_anndata(cells)
    model = scmetaq.MetaQModel(cells, cells.n_obs // CELLS_PER_METACELL)
    model.train(accelerator="cpu", enable_progress_bar=False)
    one, other = (anndata.AnnData(half[deep]) for half in halves)
    codebook = model.module.codebook
    z = torch.from_numpy(model.get_latent_representation(one))
    near = codebook.similarity(z).detach()  # minus squared distances
    typical = codebook.typical_distance[near.argmax(1)].square()[:, None]
    code = torch.tensor([int(of[2:]) for of in model.get_assignments(other)["metacell"]])
    likelihood = {
        f"{c}": float(torch.log_softmax(c * near / typical, 1).gather(1, code[:, None]).mean())
        for c in FACTORS
    }
    return {
        "likelihood": likelihood,
        "meet": float((near.argmax(1) == code).double().mean()),
        "weight": float(model.get_soft_assignments(one).max(1).toarray().mean()),
    }


def report(results: dict[str, Any]) -> Report:
    """A row per set."""
    heading = ["set", "halves meet", "largest weight", *(f"factor {c}" for c in FACTORS)]
    rows = [
        [run["dataset"], f"{run['meet']:.2f}", f"{run['weight']:.2f}"]
        + [f"{value:.3f}" for value in run["likelihood"].values()]
        for run in results["runs"]
    ]
    return Report(table(heading, rows))


if __name__ == "__main__":
    main()
