"""Data sets with two modalities, and populations that surface proteins define."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anndata
import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from _datasets import LABEL, n_metacells
from sklearn.mixture import GaussianMixture

MODALITY: Final = "modality"
"""Column of ``var`` in the files that runners read: which modality a feature is of."""
GATES: Final = "protein gate"
POPULATIONS: Final[dict[str, tuple[str, str]]] = {
    "CD4 T naive": ("CD3 CD4 CD45RA", "CD8 CD19"),
    "CD4 T memory": ("CD3 CD4", "CD8 CD19 CD45RA"),
    "CD8 T naive": ("CD3 CD8 CD45RA", "CD4 CD19"),
    "CD8 T memory": ("CD3 CD8", "CD4 CD19 CD45RA"),
    "NK": ("CD56", "CD3 CD19"),
    "B": ("CD19", "CD3"),
    "monocyte": ("CD11c", "CD3 CD19 CD56"),
}
"""Surface proteins that cells of a population have, and those that they have not."""


@dataclass(frozen=True)
class PairedDataset:
    """One h5mu file with raw counts of two modalities in ``X``."""

    name: str
    other: str
    """The modality other than RNA."""
    dropped: tuple[str, ...] = ()
    """Labels of what are no single cells of the tissue, or are unassigned."""
    labels: str = ""
    """Where the labels come from, in a few words."""

    def source(self, folder: Path) -> Path:
        """File of the data set."""
        return folder / f"{self.name}.h5mu"

    def path(self, prepared: Path) -> Path:
        """File that runners read: the modalities side by side, see :meth:`prepare`."""
        return prepared / f"{self.name}.h5ad"

    def n_metacells(self, prepared: Path) -> int:
        """Metacells to ask for: one per 50 cells, and at least ten."""
        return max(10, n_metacells(anndata.read_h5ad(self.path(prepared), backed="r").n_obs))

    def prepare(self, folder: Path, prepared: Path) -> None:
        """Write the file that runners read, unless it is there."""
        if self.path(prepared).exists():
            return
        mdata = mudata.read_h5mu(self.source(folder))
        kinds = ["rna", self.other]
        obs = pd.DataFrame(index=mdata.obs_names)
        if LABEL in mdata["rna"].obs:
            obs[LABEL] = mdata["rna"].obs[LABEL].loc[obs.index].astype(str).to_numpy()
        counts = sp.hstack([mdata[kind][obs.index].X for kind in kinds], format="csr")
        var = pd.concat([pd.DataFrame(index=mdata[kind].var_names) for kind in kinds])
        var[MODALITY] = np.repeat(kinds, [mdata[kind].n_vars for kind in kinds])
        var.index = [f"{kind}:{name}" for kind, name in zip(var[MODALITY], var.index, strict=True)]
        adata = anndata.AnnData(counts, obs=obs, var=var)
        if LABEL in obs:
            adata = adata[~obs[LABEL].isin(self.dropped).to_numpy()].copy()
        adata.write_h5ad(self.path(prepared))

    def read(self, prepared: Path) -> tuple[dict[str, anndata.AnnData], dict[str, pd.Series]]:
        """Cells by modality, and their labels by kind of label."""
        parts = by_modality(anndata.read_h5ad(self.path(prepared)))
        rna = parts["rna"]
        labels = {LABEL: rna.obs[LABEL].astype(object)} if LABEL in rna.obs else {}
        if self.other == "adt":
            labels[GATES] = gated(parts["adt"])
        return parts, labels


PAIRED: Final[dict[str, PairedDataset]] = {
    dataset.name: dataset
    for dataset in (
        PairedDataset("pbmc_protein_2batch_400", "adt"),
        PairedDataset("eccite_pbmc_500", "adt"),
        PairedDataset(
            "cbmc_citeseq_unnamed2000",
            "adt",
            ("Mouse", "Multiplets", "T/Mono doublets"),
            "made by clustering the RNA",
        ),
        PairedDataset("snareseq_mouse_cortex", "atac", ("Mis",), "the authors', origin not stated"),
    )
}


def prepare_all(names: Iterable[str], folder: Path, prepared: Path) -> list[PairedDataset]:
    """Data sets of these names that are in a folder, each with the file that runners read."""
    prepared.mkdir(parents=True, exist_ok=True)
    datasets = [PAIRED[name] for name in names if PAIRED[name].source(folder).exists()]
    for dataset in datasets:
        dataset.prepare(folder, prepared)
    return datasets


def by_modality(adata: anndata.AnnData) -> dict[str, anndata.AnnData]:
    """Cells of a prepared file by modality, RNA first."""
    kinds = list(dict.fromkeys(adata.var[MODALITY]))
    return {kind: adata[:, (adata.var[MODALITY] == kind).to_numpy()].copy() for kind in kinds}


def gated(
    proteins: anndata.AnnData,
    sure: float = 0.8,
    populations: Mapping[str, tuple[str, str]] = POPULATIONS,
) -> pd.Series:
    """Population of each cell by its surface proteins, missing where they leave a doubt.

    A protein is on a cell where the upper of two normal distributions, fitted to its centred log
    ratios, has a posterior probability above ``sure``, and off where it is below one minus that.
    Antibodies against one chain of a complex (CD8a, CD3e) stand for the complex.
    """
    log = np.log1p(proteins.X.toarray())
    clr = log - log.mean(1, keepdims=True)
    names = [str(name).removeprefix("adt:").removeprefix("ADT_") for name in proteins.var_names]
    marker = {name.split("_")[0].split("-")[0]: i for i, name in reversed(list(enumerate(names)))}
    wanted = {m for has, lacks in populations.values() for m in f"{has} {lacks}".split()}
    column = {
        m: min((n for n in marker if re.fullmatch(f"{m}[a-z]?", n)), default="") for m in wanted
    }
    probability = {m: upper(clr[:, [marker[n]]]) for m, n in column.items() if n}
    found = pd.Series(None, index=proteins.obs_names, dtype=object)
    for population, (has, lacks) in populations.items():
        if all(m in probability for m in f"{has} {lacks}".split()):
            on = [probability[m] > sure for m in has.split()]
            off = [probability[m] < 1 - sure for m in lacks.split()]
            found[np.logical_and.reduce([*on, *off])] = population
    return found


def upper(values: np.ndarray) -> np.ndarray:
    """Posterior probability of the upper of two normal distributions, ``(n_cells,)``."""
    mixture = GaussianMixture(2, n_init=3, random_state=0).fit(values)
    return mixture.predict_proba(values)[:, mixture.means_[:, 0].argmax()]
