"""Draw ``docs/_static/overview.png``: metacells of the demo data, their purity and their sizes.

usage: uv run python docs/make_overview.py
"""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc
import scvi
from anndata import AnnData

import scmetaq

N_METACELLS = 40
TARGET = Path(__file__).parent / "_static" / "overview.png"


def trained() -> tuple[AnnData, scmetaq.MetaQModel]:
    """The demo data, and the model trained on them."""
    scvi.settings.seed = 0
    adata = scmetaq.data.demo()
    scmetaq.MetaQModel.setup_anndata(adata)
    model = scmetaq.MetaQModel(adata, n_metacells=N_METACELLS)
    model.train()
    return adata, model


def main() -> None:
    """Train on the demo data, draw and save."""
    adata, model = trained()
    adata.obs["metacell"] = model.get_assignments()["metacell"]
    adata.obsm["X_umap"] = umap(adata)
    draw(adata, model.get_metacells()).savefig(TARGET, dpi=160)


def umap(adata: AnnData) -> np.ndarray:
    """Two dimensions by the usual steps, on the counts: not on anything the model has learnt."""
    cells = adata.copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    sc.pp.highly_variable_genes(cells, n_top_genes=3000)
    sc.pp.pca(cells, n_comps=30)
    sc.pp.neighbors(cells)
    sc.tl.umap(cells)
    return cells.obsm["X_umap"]


def draw(adata: AnnData, metacells: AnnData) -> plt.Figure:
    """Cells with metacells on the left, purity and sizes on the right."""
    mpl.rcParams["font.size"] = 9
    figure = plt.figure(figsize=(11, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[1.5, 1], height_ratios=[1.35, 1])
    scmetaq.pl.embedding(adata, color="cell_type", ax=figure.add_subplot(grid[:, 0]))
    scmetaq.pl.purity(metacells, "cell_type", ax=figure.add_subplot(grid[0, 1]))
    scmetaq.pl.size(metacells, ax=figure.add_subplot(grid[1, 1]))
    return figure


if __name__ == "__main__":
    main()
