"""Methods that embed cells of several batches, or label those of one, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import anndata
import harmonypy
import numpy as np
import scvi
from _datasets import UNLABELLED
from integration import BATCH
from methods._shared import log_counts, variable_genes
from sklearn.decomposition import PCA
from sklearn.svm import LinearSVC

import scmetaq

GIVEN: Final = "given_label"
"""Column with the labels that methods are given."""
COARSE: Final = "coarse_label"
LEVELS: Final = "scpoli-levels"
"""Method that is given the coarse labels of all cells, and predicts the fine ones."""


CPU: Final[dict[str, Any]] = {"accelerator": "cpu", "enable_progress_bar": False}


class Embedding(NamedTuple):
    """What a method makes of the cells."""

    z: np.ndarray | None
    """Latents, ``(n_cells, any)``; None for a method that only labels."""
    predicted: np.ndarray
    """Label of each cell where the method says so, otherwise empty."""
    unknown: np.ndarray
    """Whether the cell is of an unknown type, if the method says so."""


def of_pca(adata: anndata.AnnData, seed: int) -> Embedding:
    """50 principal components of log counts of 3,000 variable genes."""
    return embedding(principal_components(adata, seed))


def of_harmony(adata: anndata.AnnData, seed: int) -> Embedding:
    """The same, corrected by Harmony."""
    scores = principal_components(adata, seed).astype(np.float64)
    fitted = harmonypy.run_harmony(scores, adata.obs, [BATCH], random_state=seed)
    corrected = np.asarray(fitted.Z_corr)
    return embedding(corrected if len(corrected) == adata.n_obs else corrected.T)


def of_svm(adata: anndata.AnnData, seed: int) -> Embedding:
    """Labels by a linear support vector machine on the log counts of these genes."""
    X, known = selected(adata), (adata.obs[GIVEN] != UNLABELLED).to_numpy()
    fitted = LinearSVC(random_state=seed).fit(X[known], adata.obs[GIVEN][known])
    return Embedding(None, fitted.predict(X), np.empty(0))


def of_scpoli(adata: anndata.AnnData, seed: int, **setup: Any) -> Embedding:
    """``SCPoli`` with its defaults."""
    scvi.settings.seed = seed
    scmetaq.SCPoli.setup_anndata(adata, unlabeled_category=UNLABELLED, **setup)
    return of_model(scmetaq.SCPoli(adata), setup)


def of_scmetaq(adata: anndata.AnnData, seed: int, **setup: Any) -> Embedding:
    """``MetaQModel`` with its defaults and a metacell per 50 cells; latents before quantization."""
    scvi.settings.seed = seed
    scmetaq.MetaQModel.setup_anndata(adata, unlabeled_category=UNLABELLED, **setup)
    return of_model(scmetaq.MetaQModel(adata, max(2, round(adata.n_obs / 50))), setup)


def of_model(model: scmetaq.SCPoli | scmetaq.MetaQModel, setup: dict[str, Any]) -> Embedding:
    """Train a model, and ask it for labels where it was given some."""
    model.train(**CPU)
    z = model.get_latent_representation()
    if "labels_key" not in setup:
        return embedding(z)
    found = model.predict_labels()
    unknown = found[f"{GIVEN}_unknown"].to_numpy()
    return Embedding(z, found[GIVEN].to_numpy().astype(str), unknown)


def of_scvi(adata: anndata.AnnData, seed: int) -> Embedding:
    """Latents of scVI with its defaults on the 3,000 most variable genes, with the batches."""
    return embedding(scvi_model(adata, seed).get_latent_representation())


def scvi_model(adata: anndata.AnnData, seed: int, epochs: int | None = None) -> scvi.model.SCVI:
    """Train scVI with its defaults, or for so many epochs, with the batches."""
    scvi.settings.seed = seed
    cells = adata[:, variable_genes(log_counts(adata))].copy()
    scvi.model.SCVI.setup_anndata(cells, batch_key=BATCH)
    model = scvi.model.SCVI(cells)
    model.train(epochs, **CPU)
    return model


def embedding(z: np.ndarray) -> Embedding:
    """Latents without labels."""
    return Embedding(z, np.empty(0), np.empty(0))


def selected(adata: anndata.AnnData) -> np.ndarray:
    """Log counts of the most variable genes."""
    X = log_counts(adata)
    return X[:, variable_genes(X)].toarray()


def principal_components(adata: anndata.AnnData, seed: int) -> np.ndarray:
    """Of log counts of the most variable genes, ``(n_cells, 50)``."""
    return PCA(50, svd_solver="arpack", random_state=seed).fit_transform(selected(adata))


METHODS: Final[dict[str, Callable[[anndata.AnnData, int], Embedding]]] = {
    "pca": of_pca,
    "harmony": of_harmony,
    "scvi": of_scvi,
    "linear-svm": of_svm,
    "scmetaq-blind": of_scmetaq,
    "scmetaq": lambda adata, seed: of_scmetaq(adata, seed, batch_key=BATCH),
    "scmetaq-labels": lambda adata, seed: of_scmetaq(
        adata, seed, batch_key=BATCH, labels_key=GIVEN
    ),
    "scpoli-blind": of_scpoli,
    "scpoli": lambda adata, seed: of_scpoli(adata, seed, batch_key=BATCH),
    "scpoli-labels": lambda adata, seed: of_scpoli(adata, seed, batch_key=BATCH, labels_key=GIVEN),
    LEVELS: lambda adata, seed: of_scpoli(adata, seed, batch_key=BATCH, labels_key=[COARSE, GIVEN]),
}
