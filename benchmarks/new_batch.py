"""Uncertainty of a new type in a new batch: one command from counts to a table.

usage: python benchmarks/new_batch.py --data DIR [--datasets ...] [--seeds 0 1 2]

Each batch in turn is the query. A model is trained without it, and without all cells of one type,
drawn for each batch and seed, in the other batches; the batch is mapped onto it. The effect of the
batch is estimated from its cells, so cells of an unknown type may be mistaken for known ones.
Scores are those of ``new_cells.py``, means over batches. Types that the other batches lack anyway
are left out. Results of other seeds stay in ``results/new_batch.json``.
"""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pandas as pd
import scvi
from mapping import QUIET, SETS, trained
from new_cells import FEWEST, KEY, command_line, grow, of_neighbors, scores

import scmetaq


def main() -> None:
    """Train, map, predict, write results and the table."""
    args = command_line(__doc__, SETS, out="new_batch.json").parse_args()
    grow(args, runs, "new_batch")


def runs(adata: anndata.AnnData, batch: str | None, seed: int) -> list[dict[str, Any]]:
    """Mean scores of each method over the batches, and the types that were new."""
    adata = adata[adata.obs[KEY].notna().to_numpy()].copy()
    rng = np.random.default_rng(seed)
    found, new_types = [], {}
    for name in adata.obs[batch].unique():
        is_query = (adata.obs[batch] == name).to_numpy()
        sizes = pd.crosstab(adata.obs[KEY], is_query)
        new_types[str(name)] = rng.choice(sorted(sizes.index[(sizes >= FEWEST).all(axis=1)]))
        is_new = (adata.obs[KEY] == new_types[str(name)]).to_numpy()
        cells = adata[~is_query & ~is_new].copy()
        is_asked = is_query & (is_new | adata.obs[KEY].isin(cells.obs[KEY]).to_numpy())
        query = adata[is_asked].copy()
        uncertainty = {
            "scmetaq": of_scmetaq(cells, query, seed),
            "15 neighbours on PCA": of_neighbors(cells, query),
        }
        for method, values in uncertainty.items():
            found.append({"method": method, **scores(values, is_new[is_asked])})
    means = pd.DataFrame(found).groupby("method", sort=False).mean().round(4)
    return [
        {"method": method, "new_types": new_types, **row}
        for method, row in means.to_dict("index").items()
    ]


def of_scmetaq(cells: anndata.AnnData, query: anndata.AnnData, seed: int) -> np.ndarray:
    """Uncertainty of a query that was mapped onto a model of the other cells."""
    model = trained(cells, seed, labels_key=KEY)
    scvi.settings.seed = seed
    mapped = scmetaq.MetaQModel.load_query_data(query, model)
    mapped.train(**QUIET)
    return mapped.predict_labels()[f"{KEY}_uncertainty"].to_numpy()


if __name__ == "__main__":
    main()
