"""The labelled RNA data sets and where their labels come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anndata
import pandas as pd

LABEL: Final = "cell_type"
UNLABELLED: Final = "unlabelled"
CELLS_PER_METACELL: Final = 50


@dataclass(frozen=True)
class Dataset:
    """One h5ad file with raw counts in ``X`` and labels in ``obs["cell_type"]``."""

    name: str
    labels: str
    """Where the labels come from, in a few words."""

    def path(self, folder: Path) -> Path:
        """File of the data set."""
        return folder / f"{self.name}.h5ad"

    def n_metacells(self, folder: Path) -> int:
        """Metacells to ask for."""
        return n_metacells(anndata.read_h5ad(self.path(folder), backed="r").n_obs)

    def read(self, folder: Path) -> tuple[anndata.AnnData, pd.Series]:
        """Cells, and their labels: missing where the file says that there is none."""
        adata = anndata.read_h5ad(self.path(folder))
        labels = adata.obs[LABEL].astype(object)
        return adata, labels.where(labels != UNLABELLED, None)


def n_metacells(n_cells: int) -> int:
    """Metacells to ask for: one per 50 cells."""
    return round(n_cells / CELLS_PER_METACELL)


INDEPENDENT: Final = "independent of the counts"
CIRCULAR: Final = "made by clustering these counts"

# smallest first, so that a run that is cut short has the most sets
DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset("pbmc_3chemistries_1200_hvg", CIRCULAR),
        Dataset("sc_mixology_5batch", f"{INDEPENDENT} (genotype of the cell lines)"),
        Dataset("kang_pbmc_labelled_1267genes", CIRCULAR),
        Dataset("human_pdac_A_indrop", CIRCULAR),
        Dataset("pbmc_facs_sorted", f"{INDEPENDENT} (cell sorting)"),
        Dataset("pbmc3k", CIRCULAR),
        Dataset("mouse_endocrinogenesis_2000genes", CIRCULAR),
        Dataset("pbmc4k_scdcc_unnamed2000", CIRCULAR),
        Dataset("pbmc_multibatch", "by sorting or by clustering; 2,896 cells have none"),
    )
}


def present(names: list[str], folder: Path) -> list[Dataset]:
    """Data sets whose file is there, smallest first; says which are not."""
    chosen = [dataset for name, dataset in DATASETS.items() if name in names]
    for dataset in chosen:
        if not dataset.path(folder).exists():
            print(f"skip  {dataset.name}: no {dataset.name}.h5ad in the data folder", flush=True)
    return [dataset for dataset in chosen if dataset.path(folder).exists()]
