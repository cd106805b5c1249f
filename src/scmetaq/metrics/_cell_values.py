"""Values of the cells of a data object: its columns, layers and embeddings, by name."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from scmetaq._errors import InputKeyError, InputTypeError, InputValueError
from scmetaq.metrics._groups import as_array

PCA = "pca"
"""Name of an embedding that is computed by the metrics."""


def cell_values(data: Any, values: Any, *, what: str) -> pd.Series:
    """Values of a column, of a Series by barcode or of an array, as a Series by barcode."""
    if isinstance(values, str):
        owner, column = find_column(data, values, what=what)
        # cells that lack the modality lack the value
        return owner.obs[column] if owner is data else owner.obs[column].reindex(data.obs_names)
    if isinstance(values, pd.Series):
        return _aligned(data.obs_names, values, what)
    if isinstance(values, pd.DataFrame):
        names = list(values.columns)
        problem = f"Expected `{what}` as one column, found a DataFrame with the columns {names}."
        raise InputTypeError(problem, f"Pass one of them, e.g. `frame[{names[0]!r}]`.", what)
    barcodes, values = data.obs_names, as_array(values)
    if values.shape != (len(barcodes),):
        raise InputValueError(
            f"Expected `{what}` of shape ({len(barcodes)},), one value per cell, "
            f"found shape {tuple(values.shape)}.",
            "Pass the values of exactly these cells.",
            what,
        )
    return pd.Series(values, index=barcodes).infer_objects()


def find_column(data: Any, name: str, *, what: str) -> tuple[Any, str]:
    """What has a column, ``data`` or a modality, as in ``"rna:cell_type"``; and its name there."""
    parts = getattr(data, "mod", {})
    modality, _, column = name.partition(":")
    if modality in parts and column in parts[modality].obs:  # not a copy pulled from there
        return parts[modality], column
    if name in data.obs:
        return data, name
    own = {str(c) for c in data.obs}
    own |= {f"{key}:{c}" for key, part in parts.items() for c in part.obs}
    own = {column for column in own if "_scvi" not in column}  # what set-up wrote
    raise InputKeyError(
        f"Expected `{what}` to name a column of `obs`, found no {name!r}. "
        f"Columns there: {sorted(own)}.",
        argument=what,
    )


def layers_of(adata: Any) -> list[str]:
    """Names of the layers, without None."""
    return sorted(filter(None, adata.layers.keys()))


def check_layer(cells: Any, layer: str | None) -> None:
    """Refuse a layer that an AnnData, or every modality of several, lacks."""
    parts = _parts(cells)
    if layer is None or any(layer in layers_of(part) for part in parts.values()):
        return
    layers = {name: layers_of(part) for name, part in parts.items()}
    raise InputKeyError(
        f"Expected `layer` to name a layer{'' if None in parts else ' of a modality'}, found no "
        f"{layer!r}. Layers: {layers.get(None, layers)}.",
        argument="layer",
    )


def has_rep(adata: Any, use_rep: str | None) -> bool:
    """Whether there is such an embedding, or it can be computed."""
    return use_rep is not None and (use_rep == PCA or use_rep in adata.obsm)


def check_rep(cells: Any, use_rep: str | None) -> None:
    """Refuse an embedding that an AnnData, or every modality of several, lacks."""
    parts = _parts(cells)
    if use_rep is None or any(has_rep(part, use_rep) for part in parts.values()):
        return
    names = {name: sorted(map(str, part.obsm)) for name, part in parts.items()}
    where = "" if None in names else " of the MuData or a modality"
    raise InputKeyError(
        f"Expected `use_rep` to name an embedding in `obsm`{where}, or {PCA!r}, found "
        f"{use_rep!r}. Embeddings: {names.get(None, names)}.",
        argument="use_rep",
    )


def _parts(cells: Any) -> Mapping[str | None, Any]:
    """Modalities of a MuData, or those given, by name; an AnnData is one, without a name."""
    parts = getattr(cells, "mod", cells)
    return parts if isinstance(parts, Mapping) else {None: parts}


def _aligned(barcodes: pd.Index, values: pd.Series, what: str) -> pd.Series:
    if not values.index.is_unique:
        repeated = values.index[values.index.duplicated()][0]
        problem = f"Expected one value of `{what}` per barcode, found {repeated!r} repeatedly."
        raise InputValueError(problem, "Remove the repeats.", what)
    absent = barcodes.difference(values.index)
    if len(absent) > 0:
        raise InputValueError(
            f"Expected `{what}` for all {len(barcodes)} cells, found {len(absent)} barcodes "
            f"missing, e.g. {absent[0]!r}.",
            "Index the Series by `obs_names`, with missing values for cells without, or pass an "
            "array.",
            what,
        )
    return values.loc[barcodes]
