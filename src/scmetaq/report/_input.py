"""What a report is asked to be about, checked before any work starts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq.metrics._cell_values import cell_values, check_layer
from scmetaq.metrics._groups import check_categories, factorize_metacells


def read_assignments(data: AnnData | MuData, assignments: Any) -> pd.DataFrame:
    """Table with the metacell of each cell as text, in the order of the cells.

    Parameters
    ----------
    data
        The cells.
    assignments
        A table with the column ``metacell``, or a Series, by barcode: cells that are not there
        have no metacell; or a column of ``obs``, or an array in the order of the cells.

    Raises
    ------
    TypeError, KeyError, ValueError
        No cells, no column with metacells, not one value per cell or barcode, or none of these
        cells.
    """
    _check_data(data)
    if isinstance(assignments, pd.DataFrame):
        table = assignments
    elif isinstance(assignments, pd.Series):
        table = assignments.to_frame(_keys.METACELL)
    else:
        table = cell_values(data, assignments, what="assignments").to_frame(_keys.METACELL)
    if _keys.METACELL not in table:
        raise KeyError(
            f"Expected `assignments` with the column {_keys.METACELL!r}, found "
            f"{list(table.columns)}. Rename the column with metacells, or pass it as a Series."
        )
    _check_barcodes(data.obs_names, table.index)
    table = table.reindex(data.obs_names)
    metacells = factorize_metacells(table[_keys.METACELL])
    metacells = metacells.rename_categories(metacells.categories.astype(str))
    table[_keys.METACELL] = pd.Series(metacells, table.index).astype(object)
    return table


def check_labels(data: AnnData | MuData, keys: Sequence[str]) -> None:
    """Refuse columns of labels that are not there, or hold decimal numbers."""
    for key in keys:
        values = cell_values(data, key, what="labels_key")
        check_categories(values, f"labels_key={key!r}")


def check_embedding(data: AnnData | MuData, embedding: np.ndarray | None) -> None:
    """Refuse a latent that is not of all cells."""
    if embedding is None:
        return
    shape = np.shape(embedding)
    if len(shape) != 2 or shape[0] != data.n_obs:
        raise ValueError(
            f"Expected `embedding` of shape ({data.n_obs}, n_latent), one row per cell, found "
            f"shape {shape}. Pass the latent of exactly these cells."
        )


def check_counts_layer(data: AnnData | MuData, layer: str | None) -> None:
    """Refuse a layer that is not there, in MuData one that no modality has."""
    check_layer(data, layer)


def make_folder(path: Path) -> None:
    """Make the folder of a page that is to be written, unless it is there."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"Expected `path` to end in .html, found {path}. A report is a page; a file of another "
            f"kind there would be lost. Name e.g. {path.with_suffix('.html')}."
        )
    if path.is_dir():
        raise IsADirectoryError(
            f"Expected `path` to be a file to write, found the folder {path}. Name a file in it, "
            f"e.g. {path / 'report.html'}."
        )
    at = next(parent for parent in path.absolute().parents if parent.exists())
    if not at.is_dir():
        raise NotADirectoryError(f"Expected a folder for {path}, found the file {at} there.")
    path.parent.mkdir(parents=True, exist_ok=True)


def _check_barcodes(cells: pd.Index, barcodes: pd.Index) -> None:
    if not barcodes.is_unique:
        repeated = barcodes[barcodes.duplicated()][0]
        raise ValueError(
            f"Expected each barcode once in `assignments`, found {repeated!r} repeatedly. "
            "Remove the repeats."
        )
    if not barcodes.isin(cells).any():
        found = f"e.g. {barcodes[0]!r}" if len(barcodes) else "none"
        raise ValueError(
            f"Expected `assignments` indexed by the barcodes of the cells (e.g. {cells[0]!r}), "
            f"found others ({found}). Index them by `obs_names`."
        )


def _check_data(data: Any) -> None:
    """Refuse anything but cells."""
    if not isinstance(data, AnnData | MuData):
        raise TypeError(f"Expected an AnnData or a MuData with cells, found {type(data).__name__}.")
