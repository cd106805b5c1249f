"""Checks of user input. Each says what was expected, what was found and how to mend it."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from ._blocks import by_rows

_BLOCK = 4_096


def check_anndata(
    adata: AnnData, *, layer: str | None = None, is_query: bool = False, where: str = "adata"
) -> None:
    """Refuse data that are not raw counts of named cells, before any work starts.

    Parameters
    ----------
    adata
        The cells.
    layer
        Layer with the raw counts; None for ``X``.
    is_query
        Whether features without counts are nothing to speak of.
    where
        What the user calls the data.

    Raises
    ------
    TypeError
        Not an AnnData.
    KeyError
        No such layer.
    ValueError
        Empty data, duplicate barcodes, values that are not counts, or cells without counts.
    """
    if not isinstance(adata, AnnData):
        raise TypeError(
            f"Expected an AnnData, found {type(adata).__name__}. Read a file first, e.g. "
            "adata = anndata.read_h5ad(path)."
        )
    _check_shape(adata, where)
    check_layer(adata, layer, where)
    check_unique(adata.obs_names, "barcodes (obs_names)", f"{where}.obs_names_make_unique()")
    check_unique(adata.var_names, "feature names (var_names)", f"{where}.var_names_make_unique()")
    _check_counts(adata, layer, where, is_query=is_query)


def check_choice(name: str, value: object, choices: Sequence[str | None]) -> None:
    """Refuse a value that is none of the choices, and name them."""
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices if choice is not None)
        raise ValueError(f"Unknown {name} {value!r}: expected one of {known}.")


def check_positive(name: str, value: int | None) -> None:
    """Refuse what is no whole number of at least one; None stands for the default.

    Raises
    ------
    TypeError
        Not a whole number.
    ValueError
        Below one.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"Expected {name} to be an int, found {value!r}.")
    if value < 1:
        raise ValueError(f"Expected {name} to be at least 1, found {value}.")


def check_of_modalities(name: str, value: Any, modalities: Collection[str]) -> dict[str, Any]:
    """One value per modality, of a value for all of them or a dict of some.

    Raises
    ------
    ValueError
        The dict names a modality that is not there.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(modalities, value)
    for modality in value:
        check_choice(f"modality in {name}", modality, list(modalities))
    return {modality: value.get(modality) for modality in modalities}


def check_weights(weights: Mapping[str, float] | None, modalities: Collection[str]) -> None:
    """Refuse weights of modalities that do not say how much each counts; None is the default.

    Raises
    ------
    ValueError
        Not a weight for each modality, a negative one, or none above zero.
    """
    if weights is None:
        return
    if not isinstance(weights, Mapping) or set(weights) != set(modalities):
        raise ValueError(
            f"Expected modality_weights with a number for each of {', '.join(modalities)}, e.g. "
            f"{dict.fromkeys(modalities, 1.0)}, found {weights!r}."
        )
    numbers = list(weights.values())
    are_numbers = all(isinstance(w, Real) and np.isfinite(w) and w >= 0 for w in numbers)
    if not are_numbers or not sum(numbers):
        raise ValueError(
            "Expected modality_weights as numbers of zero or more, and one above zero, found "
            f"{weights!r}."
        )


def check_columns(
    adata: AnnData | MuData,
    keys: Sequence[str | None],
    *,
    missing_value: str | None = None,
    where: str = "adata",
) -> None:
    """Refuse names of ``obs`` columns that do not exist or hold nothing.

    Raises
    ------
    KeyError
        No such column; the message lists those there are.
    ValueError
        All values of a column are missing.
    """
    for key in keys:
        if key is None:
            continue
        if key not in adata.obs:
            there = ", ".join(map(repr, adata.obs.columns)) or "none"
            raise KeyError(f"No column {key!r} in {where}.obs. Columns there: {there}.")
        values = adata.obs[key].astype(object)  # nullable text compares to a missing value
        if (values.isna() | is_unlabeled(values, missing_value)).all():
            raise ValueError(
                f"All values of {where}.obs[{key!r}] are missing. Expected labels for at least "
                "some cells; choose another column or leave the argument out."
            )


def as_name(value: object) -> str:
    """A value of a column of names as text; whole numbers have no fraction."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def is_unlabeled(values: pd.Series, missing_value: Any) -> pd.Series:
    """Which values stand for no label, also where one is a number and the other its text."""
    if missing_value is None:
        return values.isna()
    found = (values == missing_value) | (values.astype(str) == str(missing_value))
    number = pd.to_numeric(str(missing_value), errors="coerce")
    return found if pd.isna(number) else found | (pd.to_numeric(values, errors="coerce") == number)


def check_share(name: str, value: float) -> None:
    """Refuse what is no number between zero and one."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
        raise ValueError(f"Expected {name} between 0 and 1, found {value!r}.")


def with_features(adata: AnnData, names: pd.Index) -> AnnData:
    """New cells with the features of a model, in its order; others are left out.

    Returns
    -------
    ``adata`` itself where its features are those of the model already, else a copy.

    Raises
    ------
    TypeError
        Not an AnnData.
    ValueError
        Features of the model are missing.
    """
    if not isinstance(adata, AnnData):
        raise TypeError(f"Expected an AnnData, found {type(adata).__name__}.")
    if adata.var_names.equals(names):
        return adata
    missing = names.difference(adata.var_names)
    if len(missing):
        raise ValueError(
            f"Expected the {len(names)} features that the model was trained on, found only "
            f"{len(names) - len(missing)} of them: {len(missing)} are missing from var_names, "
            f"e.g. {missing[0]!r}. Pass cells counted with the same features under the same names. "
            "Models that have load_query_data map cells without some features, too."
        )
    check_unique(adata.var_names, "feature names (var_names)", "adata.var_names_make_unique()")
    chosen = adata[:, names]
    return chosen.to_memory() if adata.isbacked else chosen.copy()


def check_n_metacells(n_metacells: int, n_cells: int) -> None:
    """Refuse a number of metacells that no assignment of the cells can have.

    Raises
    ------
    TypeError
        Not a whole number.
    ValueError
        Below 2, or not below the number of cells.
    """
    if isinstance(n_metacells, bool) or not isinstance(n_metacells, int | np.integer):
        raise TypeError(f"Expected n_metacells to be an int, found {n_metacells!r}.")
    if n_metacells < 2 or n_metacells >= n_cells:
        raise ValueError(
            f"Expected n_metacells between 2 and {n_cells - 1} (fewer than the {n_cells} cells), "
            f"found {n_metacells}. One metacell per 50 cells is a good start: "
            f"n_metacells={max(2, round(n_cells / 50))}."
        )


def check_cut(n_metacells: int, n_trained: int) -> None:
    """Refuse a number of metacells that those of a model cannot be merged to.

    Raises
    ------
    TypeError
        Not a whole number.
    ValueError
        Below 2, or more than the model has.
    """
    if isinstance(n_metacells, bool) or not isinstance(n_metacells, int | np.integer):
        raise TypeError(f"Expected n_metacells to be an int, found {n_metacells!r}.")
    if not 2 <= n_metacells <= n_trained:
        raise ValueError(
            f"Expected n_metacells between 2 and the {n_trained} that the model was trained for, "
            f"found {n_metacells}. Train a model with more to have more."
        )


def _check_shape(adata: AnnData, where: str) -> None:
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise ValueError(
            f"The data are empty: {adata.n_obs} cells x {adata.n_vars} features in {where}. "
            "Expected at least one cell and one feature; look at the filtering before this step."
        )


def check_layer(adata: AnnData, layer: str | None, where: str) -> None:
    layers = [name for name in adata.layers.keys() if name is not None]  # noqa: SIM118
    if layer is not None and layer not in layers:
        there = ", ".join(map(repr, layers)) or "none"
        raise KeyError(f"No layer {layer!r} in {where}.layers. Layers there: {there}.")
    if layer is None and adata.X is None:
        there = ", ".join(map(repr, layers)) or "none"
        raise ValueError(
            f"{where}.X is empty. Name a layer with raw counts; layers there: {there}."
        )


def check_unique(names: pd.Index, what: str, fix: str) -> None:
    """Refuse names that occur more than once."""
    repeated = names[names.duplicated()].unique()
    if len(repeated):
        raise ValueError(
            f"Expected unique {what}, found {len(repeated)} that occur more than once, e.g. "
            f"{repeated[0]!r}. Fix: {fix}."
        )


def _check_counts(adata: AnnData, layer: str | None, where: str, *, is_query: bool) -> None:
    fix = f"sc.pp.filter_cells({where}, min_counts=1)"
    whole, bracket, _ = where.partition("[")
    if bracket:  # a modality
        fix += f"; {whole}.update()"
    data = where
    where += ".X" if layer is None else f".layers[{layer!r}]"
    counts = by_rows(adata.X if layer is None else adata.layers[layer])
    found = _Tally(adata.n_vars)
    for start in range(0, adata.n_obs, _BLOCK):
        found.add(counts[start : start + _BLOCK])
    found.refuse_bad_values(where, "rna_layer=, adt_layer= or atac_layer=" if bracket else "layer=")
    _refuse_empty_cells(np.concatenate(found.per_cell), adata.obs_names, where, fix)
    n_silent = int((found.per_feature == 0).sum())
    if n_silent and not is_query:
        warnings.warn(
            f"{n_silent} of {adata.n_vars} features have no counts in {where}: they tell nothing "
            "about the cells and are passed over. To drop them: "
            f"sc.pp.filter_genes({data}, min_counts=1).",
            UserWarning,
            stacklevel=4,
        )


class _Tally:
    """Running counts of what is wrong with a matrix, block by block."""

    def __init__(self, n_features: int):
        self.n_nan = self.n_negative = self.n_fraction = self.n_values = 0
        self.largest = 0.0
        self.per_cell: list[np.ndarray] = []
        self.per_feature = np.zeros(n_features)

    def add(self, block: Any) -> None:
        values = np.asarray(block.data if sp.issparse(block) else block).ravel()
        finite = np.isfinite(values)
        self.n_values += len(values)
        self.n_nan += int((~finite).sum())
        self.n_negative += int((values[finite] < 0).sum())
        self.n_fraction += int((values[finite] % 1 != 0).sum())
        self.largest = max(self.largest, float(values[finite].max(initial=0)))
        self.per_cell.append(np.asarray(block.sum(axis=1)).ravel())
        self.per_feature += np.asarray(abs(block).sum(axis=0)).ravel()

    def refuse_bad_values(self, where: str, argument: str) -> None:
        advice = f"Name the layer that holds the raw counts with {argument}..."
        for n, what in ((self.n_nan, "NaN or infinite"), (self.n_negative, "negative")):
            if n:
                raise ValueError(
                    f"Expected raw counts (integers >= 0) in {where}, found {n} {what} values of "
                    f"{self.n_values} stored. {advice}"
                )
        if self.n_fraction:
            guess = "They look normalised or scaled."
            if 2 * self.n_fraction < self.n_values:
                guess = "Most values are whole numbers."
            elif self.largest < 16:
                guess = "They look log-normalised (log1p)."
            raise ValueError(
                f"Expected raw counts (integers) in {where}, found {self.n_fraction} non-integer "
                f"values of {self.n_values} stored, the largest {self.largest:.4g}. {guess} "
                f"{advice}"
            )


def _refuse_empty_cells(per_cell: np.ndarray, barcodes: pd.Index, where: str, fix: str) -> None:
    empty = np.flatnonzero(per_cell == 0)
    if len(empty):
        raise ValueError(
            f"{len(empty)} of {len(per_cell)} cells have no counts in {where}, e.g. "
            f"{barcodes[empty[0]]!r}. Expected at least one count per cell. Fix: {fix}."
        )
