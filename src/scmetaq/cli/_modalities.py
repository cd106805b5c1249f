"""The modalities of MuData, and what options mean there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ._errors import BadInput, bad_input
from ._terminal import say_note

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


_LABELS = "--labels-key"


class Labels(NamedTuple):
    """Columns with labels, in the ``obs`` of the cells or, of MuData, in that of a modality."""

    columns: list[str]
    modality: str | None = None

    @property
    def names(self) -> list[str]:
        """The columns with their modality."""
        return [c if self.modality is None else f"{self.modality}:{c}" for c in self.columns]

    def first(self, data: Any) -> str | pd.Series | None:
        """Labels of all cells by the first column; missing where cells lack the modality."""
        if not self.columns or self.modality is None:
            return next(iter(self.columns), None)
        return data.mod[self.modality].obs[self.columns[0]].reindex(data.obs_names)


def find_modalities(mdata: MuData, note: Callable[[str], None] = say_note) -> dict[str, str]:
    """Name of the modality of each kind of counts, by their usual names."""
    from scmetaq import data

    with bad_input():
        names = data.find_modalities(mdata)
    others = [name for name in mdata.mod if name not in names.values()]
    if others:
        note(f"Modalities of no known kind are left out: {', '.join(others)}.")
    return names


def check_layer(adata: AnnData, layer: str | None) -> None:
    """Refuse a layer that is not there."""
    if layer is not None and layer not in adata.layers:
        there = ", ".join(map(repr, sorted(filter(None, adata.layers)))) or "none"
        raise BadInput(f"No layer {layer!r} for --layer. Layers there: {there}.")


def find_layers(mdata: MuData, names: Mapping[str, str], layer: str | None) -> dict[str, str]:
    """The layer, for the kinds of counts whose modality has it."""
    if layer is None:
        return {}
    found = {kind: layer for kind, name in names.items() if layer in mdata.mod[name].layers}
    if not found:
        layers = {name: sorted(filter(None, mdata.mod[name].layers)) for name in names.values()}
        there = "; ".join(
            f"{name}: {', '.join(map(repr, of)) or 'none'}" for name, of in layers.items()
        )
        raise BadInput(f"No layer {layer!r} in any modality for --layer. Layers there: {there}.")
    return found


def find_labels(data: AnnData | MuData, keys: Sequence[str], option: str = _LABELS) -> Labels:
    """Where the columns are: all in one place. Labels are names or whole numbers.

    Parameters
    ----------
    data
        The cells.
    keys
        Columns of ``obs`` of the cells; of MuData also of exactly one modality, or with the
        modality before them, as in ``rna:cell_type``.
    option
        Option that names them.
    """
    places = [_place(data, key, option) for key in keys]
    if option == _LABELS:
        for key, (modality, column) in zip(keys, places, strict=True):
            _check_categories(_obs(data, modality)[column], key)
    if len({modality for modality, _ in places}) > 1:
        where = ", ".join(f"{c!r} in {'the MuData' if m is None else m!r}" for m, c in places)
        raise BadInput(
            f"Expected all {option} in one obs, found {where}: copy them to the obs of the MuData."
        )
    return Labels([column for _, column in places], places[0][0] if places else None)


def _place(data: AnnData | MuData, key: str, option: str) -> tuple[str | None, str]:
    """Modality (None: the cells as a whole) and column."""
    parts = data.mod if hasattr(data, "mod") else {}
    before, colon, column = key.partition(":")
    if colon and before in parts and column in parts[before].obs:
        return before, column
    if key in data.obs:
        return None, key
    having = [name for name, part in parts.items() if key in part.obs]
    if len(having) == 1:
        return having[0], key
    if having:
        spelled = " or ".join(f"{name}:{key}" for name in having)
        raise BadInput(f"Column {key!r} is in several modalities: say which is meant, {spelled}.")
    own = [str(c) for c in data.obs if str(c).split(":")[0] not in parts]
    there = own + [f"{name}:{c}" for name, part in parts.items() for c in part.obs]
    where = "the obs of the MuData or of a modality" if parts else "obs"
    raise BadInput(
        f"No column {key!r} in {where} for {option}. Columns there: "
        f"{', '.join(map(repr, there)) or 'none'}."
    )


def _obs(data: AnnData | MuData, modality: str | None) -> pd.DataFrame:
    part: Any = data if modality is None else data.mod[modality]  # type: ignore[union-attr]
    return part.obs


def _check_categories(column: pd.Series, key: str) -> None:
    """Refuse decimal numbers, which the report would refuse after all work."""
    from pandas.api.types import is_float_dtype

    numbers = column.dropna()
    if is_float_dtype(numbers) and (numbers != numbers.round()).any():
        raise BadInput(
            f"Expected categories in the column {key!r} for {_LABELS}, found decimal numbers: bin "
            "them, or name another column."
        )


def describe(data: AnnData | MuData, names: Mapping[str, str]) -> str:
    """How many cells there are, and features of each modality."""
    if not hasattr(data, "mod"):
        return f"{data.n_obs:,} cells x {data.n_vars:,} features"
    parts = [_described(data, name) for name in names.values()]
    return f"{data.n_obs:,} cells ({', '.join(parts)})"


def _described(mdata: MuData, name: str) -> str:
    part = mdata.mod[name]
    lacking = "" if part.n_obs == mdata.n_obs else f" in {part.n_obs:,} of them"
    return f"{part.n_vars:,} {name} features{lacking}"


def facts(
    data: Any,
    names: Mapping[str, str],
    layer: str | None,
    weights: Mapping[str, float] | None = None,
) -> dict[str, object]:
    """Sizes of the data and where the counts are, for the report.

    Parameters
    ----------
    data
        The cells.
    names
        Name of the modality by kind of counts; none of an AnnData, which is one.
    layer
        Layer asked for.
    weights
        How much each kind counts.
    """
    if not names:
        return {
            "Cells × features": f"{data.n_obs:,} × {data.n_vars:,}",
            "Counts": _where(layer),
        }
    rows: dict[str, object] = {"Cells": f"{data.n_obs:,}"}
    layers = find_layers(data, names, layer)
    for kind, name in names.items():
        part = data.mod[name]
        text = (
            f"{part.n_obs:,} cells × {part.n_vars:,} features, counts in {_where(layers.get(kind))}"
        )
        if weights is not None:
            text += f"; weight {weights[kind]:.0%} of the distances between cells"
        rows[f"Modality {name}"] = text
    return rows


def _where(layer: str | None) -> str:
    return "X" if layer is None else f"layer {layer!r}"
