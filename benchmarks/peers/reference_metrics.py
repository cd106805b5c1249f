"""What SEACells' own functions say of metacells of real cells, for the tests of the metrics.

usage: SEACELLS_ENVIRONMENT/bin/python benchmarks/peers/reference_metrics.py CELLS.h5ad OUT.json

Cells, rounded, and metacells go into the file together with the numbers, so that nothing else has
to be computed twice in the same way.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import SEACells
from sklearn.cluster import KMeans

N_CELLS, N_COMPONENTS, N_METACELLS = 300, 8, 20


def main(cells: Path, out: Path) -> None:
    """Principal components, metacells by k-means, and their numbers."""
    adata = anndata.read_h5ad(cells)[:N_CELLS].copy()
    labels = adata.obs["cell_type"].astype(str)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=N_COMPONENTS, random_state=0)
    embedding = np.round(np.asarray(adata.obsm["X_pca"], dtype=np.float64), 3)
    found = KMeans(N_METACELLS, n_init=1, random_state=0).fit_predict(embedding)
    judged = anndata.AnnData(
        np.zeros((N_CELLS, 1)),
        obs=pd.DataFrame(
            {"SEACell": found.astype(str), "cell_type": labels.to_numpy()},
            index=[f"cell{i}" for i in range(N_CELLS)],
        ),
        obsm={"X_pca": embedding},
    )
    names = [str(name) for name in range(N_METACELLS)]
    purity = SEACells.evaluate.compute_celltype_purity(judged, "cell_type")
    numbers = {
        "compactness": SEACells.evaluate.compactness(judged)["compactness"],
        "separation": SEACells.evaluate.separation(judged)["separation"],
        "purity": purity["cell_type_purity"],
    }
    reference = {
        "versions": {name: version(name) for name in ("SEACells", "palantir", "scanpy")},
        "embedding": embedding.tolist(),
        "labels": labels.tolist(),
        "metacells": found.tolist(),
        **{name: values[names].astype(float).tolist() for name, values in numbers.items()},
    }
    out.write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
