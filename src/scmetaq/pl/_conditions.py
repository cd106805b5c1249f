"""Embeddings of samples and other conditions."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from scmetaq._errors import InputKeyError, InputTypeError, InputValueError
from scmetaq.pl._style import (
    ACCENT,
    GREY,
    INK,
    as_categories,
    draw_legend,
    draw_names,
    label_colors,
    name_axes,
    new_axes,
    strip_frame,
)

MAX_NAMES = 24
"""Samples whose names can be read next to their points."""
MAX_CATEGORIES = 20
"""Categories that can be distinguished in a legend."""
_UNKNOWN = "unknown"


def conditions(
    samples: AnnData, color: str | None = None, *, basis: str = "X_pca", ax: Axes | None = None
) -> Axes:
    """Draw samples by the first two components of their embedding.

    Up to 24 samples have their names next to them, except those without a free place.

    Parameters
    ----------
    samples
        A row per sample, with components: an entry of what
        :meth:`~scmetaq.MetaQModel.get_condition_embeddings` returns.
    color
        Column of ``obs``: categories with a legend (colours of ``uns["<color>_colors"]`` if
        there), or numbers with a scale; where it is missing, samples are grey. None: all alike.
    basis
        Entry of ``obsm`` with the components, shape ``(n_samples, n_components)``; of a single
        one, all samples are on a line. If it is ``"X_pca"``, ``uns["pca"]["variance_ratio"]`` is
        written at the axes.
    ax
        Axes to draw on; None: of a new figure.
    """
    position = _position(samples, basis)
    values = None if color is None else _values(samples, color)
    widen = ax is None
    ax = new_axes(ax, 4.4 if values is None else 5.4, 3.8)
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    ax.axvline(0, color=GREY, linewidth=0.6, zorder=0)

    def draw(among: Any, tint: Any, **style: Any) -> PathCollection:
        style |= {"s": 52, "edgecolors": "white", "linewidths": 0.9, "zorder": 3}
        return ax.scatter(position[among, 0], position[among, 1], c=tint, **style)

    if values is None:
        draw(slice(None), ACCENT)
    elif isinstance(values, pd.Categorical):
        tints = label_colors(list(values.categories), samples.uns.get(f"{color}_colors"))
        parts = [(values == name, tint, name) for name, tint in tints.items()]
        parts.append((values.isna(), GREY, _UNKNOWN))
        entries = [(draw(among, tint), name) for among, tint, name in parts if among.any()]
        draw_legend(ax, entries, n_rows=21, widen=widen, title=color, handletextpad=0.3)
    else:
        _draw_numbers(ax, draw, values, str(color))
    _label_axes(ax, samples, basis)
    if samples.n_obs <= MAX_NAMES:
        components: Any = samples.obsm[basis]
        draw_names(ax, position, samples.obs_names, upright=components.shape[1] == 1)
    return ax


def _position(samples: AnnData, basis: str) -> np.ndarray:
    """First two components, the second zero where there is one only, S x 2."""
    if not isinstance(samples, AnnData):
        raise InputTypeError(
            f"Expected `samples` as an AnnData, found {type(samples).__name__}.",
            "Of `get_condition_embeddings()` pass the entry of one key.",
            "samples",
        )
    if basis not in samples.obsm:
        raise InputKeyError(
            f"Expected `basis` to name components in `obsm`, found no {basis!r}. "
            f"Entries there: {sorted(map(str, samples.obsm))}.",
            "Compute some, e.g. by `sc.pp.pca`.",
            "basis",
        )
    components = np.asarray(samples.obsm[basis], dtype=float)[:, :2]
    return np.pad(components, ((0, 0), (0, 2 - components.shape[1])))


def _values(samples: AnnData, color: str) -> Any:
    """Numbers, or categories as text."""
    if color not in samples.obs:
        raise InputKeyError(
            f"Expected `color` to name a column of `obs`, found no {color!r}. "
            f"Columns there: {sorted(map(str, samples.obs.columns))}.",
            argument="color",
        )
    column: Any = samples.obs[color]
    types = pd.api.types
    if types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
        return column.to_numpy(dtype=float, na_value=np.nan)
    categories = as_categories(column)
    n_present = len(categories.remove_unused_categories().categories)
    if n_present > MAX_CATEGORIES:
        raise InputValueError(
            f"Expected at most {MAX_CATEGORIES} categories in {color!r}, found {n_present}:",
            "name a column with fewer.",
            "color",
        )
    return categories


def _draw_numbers(ax: Axes, draw: Any, values: np.ndarray, name: str) -> None:
    """Draw samples by a number with its scale, and note above the plot that some have none."""
    known = np.isfinite(values)
    if known.any():
        points = draw(known, values[known], cmap="viridis")
        scale = ax.figure.colorbar(points, ax=ax, shrink=0.8)
        scale.set_label(name, fontsize=8, color=INK)
        scale.ax.tick_params(labelsize=7)
        scale.outline.set_visible(False)
    if not known.all():
        grey = draw(~known, GREY)
        place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "frameon": False}
        ax.legend([grey], [f"{name} {_UNKNOWN}"], fontsize=8, handletextpad=0.3, **place)


def _label_axes(ax: Axes, samples: AnnData, basis: str) -> None:
    ratio = samples.uns.get("pca", {}).get("variance_ratio", ()) if basis == "X_pca" else ()
    name = "PC" if basis == "X_pca" else f"{basis.removeprefix('X_')} "
    shares = [f" ({share:.0%} of the variance)" for share in np.asarray(ratio)[:2]] + ["", ""]
    components: Any = samples.obsm[basis]
    name_axes(ax, f"{name}1{shares[0]}", f"{name}2{shares[1]}" if components.shape[1] > 1 else "")
    if components.shape[1] == 1:
        ax.set_yticks([])
    ax.margins(0.14, 0.18)
    ax.tick_params(labelsize=7)
    strip_frame(ax)
