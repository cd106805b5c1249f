"""What ``evaluate`` cannot judge, refused before any work starts."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from scmetaq.metrics._groups import factorize_metacells
from scmetaq.metrics._whole_number import check_whole_number

PCA = "pca"
"""Word for an embedding that is computed here."""


def check_numbers(*, n_top_genes: Any, max_cells: Any, seed: Any) -> None:
    """Refuse numbers that nothing can be computed with."""
    check_whole_number("n_top_genes", n_top_genes)
    check_whole_number("seed", seed, least=0)
    if max_cells is not None:
        check_whole_number("max_cells", max_cells)


def check_have_metacells(parts: Mapping[str, Any], metacells: pd.Series) -> None:
    """Refuse a modality of which no cell has a metacell.

    Parameters
    ----------
    parts
        AnnData of each modality.
    metacells
        Metacell of each cell, by barcode.
    """
    for name, part in parts.items():
        column = factorize_metacells(metacells.loc[part.obs_names])
        if len(column.categories) == 0:
            raise ValueError(
                f"Expected cells with a metacell in the modality {name!r}, found none among its "
                f"{part.n_obs}. Pass an assignment of these cells too, or name the other "
                "modalities in `modalities`."
            )


def check_names(parts: Mapping[str, Any], *, layer: str | None, use_rep: str | None) -> None:
    """Refuse names that no modality has."""
    layers = {name: sorted(filter(None, part.layers.keys())) for name, part in parts.items()}
    if layer is not None and not any(layer in names for names in layers.values()):
        raise KeyError(
            f"Expected `layer` to name a layer of a modality, found no {layer!r}. Layers: {layers}."
        )
    if use_rep is not None and not any(has_rep(part, use_rep) for part in parts.values()):
        embeddings = {name: sorted(map(str, part.obsm)) for name, part in parts.items()}
        raise KeyError(
            "Expected `use_rep` to name an embedding in `obsm` of the MuData or a modality, or "
            f"{PCA!r}, found {use_rep!r}. Embeddings of modalities: {embeddings}."
        )


def check_layer(adata: Any, layer: str | None) -> None:
    """Refuse a layer that is not there."""
    layers = sorted(filter(None, adata.layers.keys()))
    if layer is not None and layer not in layers:
        raise KeyError(f"Expected `layer` to name a layer, found no {layer!r}. Layers: {layers}.")


def has_rep(adata: Any, use_rep: str | None) -> bool:
    """Whether there is such an embedding, or it can be computed."""
    return use_rep is not None and (use_rep == PCA or use_rep in adata.obsm)


def check_rep(adata: Any, use_rep: str | None) -> None:
    """Refuse an embedding that is not there."""
    if use_rep is not None and not has_rep(adata, use_rep):
        raise KeyError(
            f"Expected `use_rep` to name an embedding in `obsm`, or {PCA!r}, found {use_rep!r}. "
            f"Embeddings there: {sorted(map(str, adata.obsm))}."
        )
