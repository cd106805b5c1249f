"""Embeddings of samples and other conditions."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from scmetaq.pl._style import ACCENT, GREY, INK, label_colors, new_axes, strip_frame

MAX_NAMES = 24
"""Samples whose names can be told apart beside their points."""
MAX_CATEGORIES = 20
"""Categories that can be told apart in a legend."""


def conditions(
    samples: AnnData,
    color: str | None = None,
    *,
    basis: str = "X_pca",
    ax: Axes | None = None,
) -> Axes:
    """Draw samples by the first two components of their embedding.

    Parameters
    ----------
    samples
        A row per sample, with components: an entry of what
        :meth:`~scmetaq.MetaQModel.get_condition_embeddings` returns.
    color
        Column of ``obs``: categories with a legend (colours of ``uns["<color>_colors"]`` if
        there), or numbers with a scale. None: all alike.
    basis
        Entry of ``obsm`` with the components, shape ``(n_samples, n_components)``; of a single
        one, all samples are on a line. If it is ``"X_pca"``, ``uns["pca"]["variance_ratio"]`` is
        told at the axes.
    ax
        Axes to draw on; None: of a new figure.
    """
    position = _position(samples, basis)
    values = None if color is None else _values(samples, color)
    ax = new_axes(ax, 4.4 if values is None else 5.4, 3.8)
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    ax.axvline(0, color=GREY, linewidth=0.6, zorder=0)
    style: dict[str, Any] = {"s": 52, "edgecolors": "white", "linewidths": 0.9, "zorder": 3}
    if values is None:
        ax.scatter(position[:, 0], position[:, 1], c=ACCENT, **style)
    elif isinstance(values, pd.Categorical):
        _draw_categories(ax, position, values, samples.uns.get(f"{color}_colors"), style)
    else:
        points = ax.scatter(position[:, 0], position[:, 1], c=values, cmap="viridis", **style)
        scale = ax.figure.colorbar(points, ax=ax, shrink=0.8)
        scale.set_label(str(color), fontsize=8, color=INK)
        scale.ax.tick_params(labelsize=7)
        scale.outline.set_visible(False)
    if samples.n_obs <= MAX_NAMES:
        _draw_names(ax, position, samples.obs_names)
    if isinstance(values, pd.Categorical):
        _draw_legend(ax, str(color))
    _label_axes(ax, samples, basis)
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
    categories = pd.Categorical(column)
    n_present = len(categories.remove_unused_categories().categories)
    if n_present > MAX_CATEGORIES:
        raise ValueError(
            f"Expected at most {MAX_CATEGORIES} categories in {color!r}, found {n_present}: name a "
            "column with fewer."
        )
    return categories.rename_categories(categories.categories.astype(str))


def _draw_categories(
    ax: Axes, position: np.ndarray, values: pd.Categorical, chosen: Any, style: dict[str, Any]
) -> None:
    for name, tint in label_colors(list(values.categories), chosen).items():
        if (values == name).any():
            x, y = position[values == name].T
            ax.scatter(x, y, c=tint, label=name, **style)
    absent = values.isna()
    if absent.any():
        x, y = position[absent].T
        ax.scatter(x, y, c=GREY, label="unknown", **style)


def _draw_names(ax: Axes, position: np.ndarray, names: pd.Index) -> None:
    """Write each name beside its point, away from the nearest other one."""
    span = np.ptp(position, axis=0)
    scaled = position / np.where(span > 0, span, 1)
    for i, name in enumerate(names):
        others = np.delete(scaled, i, axis=0)
        below = False
        if len(others):
            away = scaled[i] - others[np.argmin(((others - scaled[i]) ** 2).sum(1))]
            below = bool(away[1] < 0)
        ax.annotate(
            str(name),
            position[i],
            xytext=(0, -6 if below else 6),
            textcoords="offset points",
            ha="center",
            va="top" if below else "bottom",
            fontsize=7,
            color=INK,
        )


def _draw_legend(ax: Axes, title: str) -> None:
    legend = ax.legend(
        title=title,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize=8,
        handletextpad=0.3,
    )
    legend.get_title().set(fontsize=8, color=INK)


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
