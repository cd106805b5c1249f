"""Embeddings of samples and other conditions."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from scmetaq.pl._labels import as_categories
from scmetaq.pl._legend import draw_legend
from scmetaq.pl._names import draw_names
from scmetaq.pl._style import ACCENT, GREY, INK, label_colors, new_axes, strip_frame

MAX_NAMES = 24
"""Samples whose names can be told apart beside their points."""
MAX_CATEGORIES = 20
"""Categories that can be told apart in a legend."""
_UNKNOWN = "unknown"


def conditions(
    samples: AnnData,
    color: str | None = None,
    *,
    basis: str = "X_pca",
    ax: Axes | None = None,
) -> Axes:
    """Draw samples by the first two components of their embedding.

    Names stand beside the points of up to 24 samples; those that find no free place are left out.

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
        told at the axes.
    ax
        Axes to draw on; None: of a new figure.
    """
    position = _position(samples, basis)
    values = None if color is None else _values(samples, color)
    widen = ax is None
    ax = new_axes(ax, 4.4 if values is None else 5.4, 3.8)
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    ax.axvline(0, color=GREY, linewidth=0.6, zorder=0)
    style: dict[str, Any] = {"s": 52, "edgecolors": "white", "linewidths": 0.9, "zorder": 3}
    if values is None:
        ax.scatter(position[:, 0], position[:, 1], c=ACCENT, **style)
    elif isinstance(values, pd.Categorical):
        tints = label_colors(list(values.categories), samples.uns.get(f"{color}_colors"))
        entries = _draw_categories(ax, position, values, tints, style)
        draw_legend(ax, entries, n_rows=21, widen=widen, title=color, handletextpad=0.3)
    else:
        _draw_numbers(ax, position, values, str(color), style)
    _label_axes(ax, samples, basis)
    if samples.n_obs <= MAX_NAMES:
        components: Any = samples.obsm[basis]
        draw_names(ax, position, samples.obs_names, upright=components.shape[1] == 1)
    return ax


def _position(samples: AnnData, basis: str) -> np.ndarray:
    """First two components, the second zero where there is one only, S x 2."""
    if not isinstance(samples, AnnData):
        raise TypeError(
            f"Expected `samples` as an AnnData, found {type(samples).__name__}. Of "
            "`get_condition_embeddings()` pass the entry of one key."
        )
    if basis not in samples.obsm:
        raise KeyError(
            f"Expected `basis` to name components in `obsm`, found no {basis!r}. "
            f"Entries there: {sorted(map(str, samples.obsm))}. Compute some, e.g. by `sc.pp.pca`."
        )
    components = np.asarray(samples.obsm[basis], dtype=float)[:, :2]
    return np.pad(components, ((0, 0), (0, 2 - components.shape[1])))


def _values(samples: AnnData, color: str) -> Any:
    """Numbers, or categories as text."""
    if color not in samples.obs:
        raise KeyError(
            f"Expected `color` to name a column of `obs`, found no {color!r}. "
            f"Columns there: {sorted(map(str, samples.obs.columns))}."
        )
    column: Any = samples.obs[color]
    types = pd.api.types
    if types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
        return column.to_numpy(dtype=float, na_value=np.nan)
    categories = as_categories(column)
    n_present = len(categories.remove_unused_categories().categories)
    if n_present > MAX_CATEGORIES:
        raise ValueError(
            f"Expected at most {MAX_CATEGORIES} categories in {color!r}, found {n_present}: name a "
            "column with fewer."
        )
    return categories


def _draw_categories(
    ax: Axes,
    position: np.ndarray,
    values: pd.Categorical,
    tints: dict[str, str],
    style: dict[str, Any],
) -> list[tuple[Artist, str]]:
    """Draw samples category by category; the points of each, and its name."""
    parts = [(values == name, tint, name) for name, tint in tints.items()]
    parts.append((values.isna(), GREY, _UNKNOWN))
    return [
        (ax.scatter(position[among, 0], position[among, 1], c=tint, **style), name)
        for among, tint, name in parts
        if among.any()
    ]


def _draw_numbers(
    ax: Axes, position: np.ndarray, values: np.ndarray, name: str, style: dict[str, Any]
) -> None:
    """Draw samples by a number with its scale, and above the plot that some have none."""
    known = np.isfinite(values)
    if known.any():
        x, y = position[known].T
        points = ax.scatter(x, y, c=values[known], cmap="viridis", **style)
        scale = ax.figure.colorbar(points, ax=ax, shrink=0.8)
        scale.set_label(name, fontsize=8, color=INK)
        scale.ax.tick_params(labelsize=7)
        scale.outline.set_visible(False)
    if not known.all():
        x, y = position[~known].T
        grey = ax.scatter(x, y, c=GREY, **style)
        ax.legend(
            [grey],
            [f"{name} {_UNKNOWN}"],
            loc="lower right",
            bbox_to_anchor=(1, 1),
            frameon=False,
            fontsize=8,
            handletextpad=0.3,
        )


def _label_axes(ax: Axes, samples: AnnData, basis: str) -> None:
    ratio = samples.uns.get("pca", {}).get("variance_ratio", ()) if basis == "X_pca" else ()
    name = "PC" if basis == "X_pca" else f"{basis.removeprefix('X_')} "
    shares = [f" ({share:.0%} of the variance)" for share in np.asarray(ratio)[:2]] + ["", ""]
    components: Any = samples.obsm[basis]
    ax.set_xlabel(f"{name}1{shares[0]}", fontsize=8, color=INK)
    ax.set_ylabel(f"{name}2{shares[1]}" if components.shape[1] > 1 else "", fontsize=8, color=INK)
    if components.shape[1] == 1:
        ax.set_yticks([])
    ax.margins(0.14, 0.18)
    ax.tick_params(labelsize=7)
    strip_frame(ax)
