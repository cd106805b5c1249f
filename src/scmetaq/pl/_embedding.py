"""Cells and metacells in two dimensions, and samples by their embedding."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D

from scmetaq import _keys
from scmetaq._errors import InputTypeError, InputValueError
from scmetaq.pl import _style
from scmetaq.pl._style import ACCENT, GREY

LARGEST_AREA = 170.0  # of the largest metacell's marker, points squared
MAX_NAMES = 24  # samples whose names can be read next to their points
MAX_CATEGORIES = 20  # categories of samples that can be distinguished in a legend
_UNKNOWN = "unknown"


def embedding(
    adata: AnnData,
    *,
    metacell: str = _keys.METACELL,
    basis: str = "X_umap",
    color: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw cells in a two-dimensional embedding and their metacells over them.

    A metacell sits at the mean position of its cells; its area grows with their number; its
    colour is that of their majority label, or of the mean of their numbers. Cells without a
    metacell (missing, or -1) are drawn, too.

    Parameters
    ----------
    adata
        Cells with an assignment and an embedding.
    metacell
        Column of ``obs`` with each cell's metacell.
    basis
        Entry of ``obsm``, shape ``(n_cells, 2)``, or of more columns: the first two are drawn.
    color
        Column of ``obs`` with up to 100 labels, in the colours of ``uns["<color>_colors"]`` if
        there, or with decimal numbers, such as margins or entropies of soft assignments, with a
        scale; cells without one are grey. None: all cells grey.
    ax
        Axes to draw on; None: of a new figure.

    Raises
    ------
    KeyError, ValueError
        No such column or embedding; no cell has a metacell, too many labels, invalid colours, or
        an embedding of one column.
    """
    style: dict[str, Any]
    cells = _cells(adata, metacell, basis, color)
    chosen = None if color is None else adata.uns.get(f"{color}_colors")
    colors = _style.label_colors(list(cells["label"].cat.categories), chosen)
    present = set(cells["label"])
    colors = {label: tint for label, tint in colors.items() if label in present}
    groups = cells.groupby("metacell", observed=True)
    metacells = groups[["x", "y", "value"]].mean().assign(size=groups.size())
    is_number = bool(np.isfinite(cells["value"]).any())
    counts = pd.crosstab(cells["metacell"], cells["label"])
    metacells["label"] = counts.idxmax(axis=1) if len(counts) > 0 else None
    # the large first, so that no small one is hidden
    metacells = metacells.sort_values("size", ascending=False)
    widen = ax is None
    ax = _style.new_axes(ax, 6.4 if color else 5.6, 4.4)
    plain = GREY if color else ACCENT
    # one shuffled layer: drawn label by label, the last would cover the others
    shuffled = cells.iloc[np.random.default_rng(0).permutation(len(cells))]

    def draw(of: pd.DataFrame, without: str, size: Any, **style: Any) -> PathCollection:
        style |= {"c": [colors.get(label, without) for label in of["label"]]}
        if is_number:
            low, high = cells["value"].min(), cells["value"].max()
            cmap = colormaps["viridis"].with_extremes(bad=GREY)
            style |= {"c": of["value"], "cmap": cmap, "vmin": low, "vmax": high}
        return ax.scatter(of["x"], of["y"], s=size, plotnonfinite=is_number, **style)

    style = {"alpha": 0.35 if colors else 0.55, "linewidths": 0, "rasterized": True}
    draw(shuffled, GREY, float(np.clip(12_000 / len(cells), 0.6, 9)), **style)
    per_cell = LARGEST_AREA / metacells["size"].max()
    style = {"edgecolors": "white", "linewidths": 0.9, "alpha": 0.95, "zorder": 3}
    drawn = draw(metacells, plain, metacells["size"] * per_cell, **style)
    if is_number:
        _draw_scale(ax, drawn, str(color), pad=0.24)
    dots = [(_dot(tint, 6.0), label) for label, tint in colors.items()]
    if color and not (cells["label"].notna() | cells["value"].notna()).all():
        dots.append((_dot(GREY, 6.0), f"{color} {_UNKNOWN}" if is_number else _style.NO_LABEL))
    dots += [(_dot("none", 1.0), "")] if dots else []
    for n in _round_steps(int(metacells["size"].max())):
        dots.append((_dot(plain, float(np.sqrt(n * per_cell))), f"{n} cell{'s' * (n > 1)}"))
    spacing, font = (0.55, 8) if len(dots) < 18 else (0.35, 7.5)
    style = {"handletextpad": 0.4, "labelspacing": spacing, "fontsize": font}
    _style.draw_legend(ax, dots, n_rows=26, widen=widen, **style)
    name = basis.removeprefix("X_")
    name = name.upper() if len(name) <= 4 else name
    ax.set(xticks=[], yticks=[])
    _style.finish(ax, f"{name} 1", f"{name} 2")
    return ax


def _cells(adata: AnnData, metacell: str, basis: str, color: str | None) -> pd.DataFrame:
    """Position, metacell, and label or decimal number of each cell."""
    if not isinstance(adata, AnnData):
        raise InputTypeError(f"Expected `adata` as an AnnData, found {type(adata).__name__}.")
    fix = "Compute one, e.g. by `sc.tl.umap`."
    position = np.asarray(_style.entry(adata.obsm, basis, "obsm", "basis", fix))
    names = _style.entry(adata.obs, metacell, "obs", "metacell").astype(object)
    names = names.where(names != -1)
    if names.isna().all():
        problem = f"Expected cells with a `metacell` in {metacell!r}, found"
        raise InputValueError(f"{problem} none among {adata.n_obs}.")
    if position.ndim != 2 or position.shape[1] < 2:
        problem = f"Expected `basis` of two columns, found shape {position.shape} of {basis!r}."
        raise InputValueError(problem)
    labels, value = [None] * adata.n_obs, np.full(adata.n_obs, np.nan)
    if color is not None:
        labels = _style.entry(adata.obs, color, "obs", "color")
        if pd.api.types.is_float_dtype(labels) and (labels.dropna() % 1 != 0).any():
            found = labels.to_numpy(dtype=float, na_value=np.nan)
            labels, value = [None] * adata.n_obs, np.where(np.isfinite(found), found, np.nan)
    x, y, label = position[:, 0], position[:, 1], _few_categories(labels, color, len(_style.COLORS))
    of_cells = {"x": x, "y": y, "metacell": names.to_numpy(), "label": label, "value": value}
    return pd.DataFrame(of_cells)


def _few_categories(values: Any, color: str | None, most: int) -> pd.Categorical:
    """Labels as text, of which there must not be more than can be distinguished."""
    labels = _style.as_categories(values)
    n_present = len(labels.remove_unused_categories().categories)
    if n_present > most:
        problem = f"Expected at most {most} labels in the `color` {color!r}, found {n_present:,}."
        raise InputValueError(problem)
    return labels


def _dot(color: str, diameter: float) -> Line2D:
    style: dict[str, Any] = {"marker": "o", "linestyle": "", "markeredgewidth": 0}
    return Line2D([], [], color=color, markersize=diameter, **style)


def _round_steps(largest: int) -> list[int]:
    """Up to three round sizes not above the largest: 1, 2 or 5 times a power of ten."""
    rounds = [m * 10**p for p in range(9) for m in (1, 2, 5)]
    fitting = [n for n in rounds if n <= largest]
    return fitting[-1:-6:-2][::-1]


def conditions(
    samples: AnnData, color: str | None = None, *, basis: str = "X_pca", ax: Axes | None = None
) -> Axes:
    """Draw samples by the first two components of their embedding.

    Up to 24 samples have their names next to them, except those without a free place.

    Parameters
    ----------
    samples
        A row per sample, as of :meth:`~scmetaq.MetaQModel.get_condition_embeddings`.
    color
        Column of ``obs``: up to 20 categories with a legend (colours of
        ``uns["<color>_colors"]`` if there), or numbers with a scale; where it is missing, samples
        are grey. None: all alike.
    basis
        Entry of ``obsm`` with the components, shape ``(n_samples, n_components)``; of a single
        one, all samples are on a line. If it is ``"X_pca"``, ``uns["pca"]["variance_ratio"]`` is
        written at the axes.
    ax
        Axes to draw on; None: of a new figure.
    """
    if not isinstance(samples, AnnData):
        problem = f"Expected `samples` as an AnnData, found {type(samples).__name__}."
        raise InputTypeError(problem, "Of `get_condition_embeddings()` pass the entry of one key.")
    fix = "Compute components, e.g. by `sc.pp.pca`."
    components = np.asarray(_style.entry(samples.obsm, basis, "obsm", "basis", fix), dtype=float)
    is_line = components.shape[1] < 2
    position = np.pad(components[:, :2], ((0, 0), (0, max(0, 2 - components.shape[1]))))
    values: Any = None if color is None else _style.entry(samples.obs, color, "obs", "color")
    types = pd.api.types
    is_number = types.is_numeric_dtype(values) and not types.is_bool_dtype(values)
    if values is not None and not is_number:
        values = _few_categories(values, color, MAX_CATEGORIES)
    widen = ax is None
    ax = _style.new_axes(ax, 4.4 if values is None else 5.4, 3.8)
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    ax.axvline(0, color=GREY, linewidth=0.6, zorder=0)

    def draw(among: Any, tint: Any, **style: Any) -> PathCollection:
        style |= {"s": 52, "edgecolors": "white", "linewidths": 0.9, "zorder": 3}
        return ax.scatter(position[among, 0], position[among, 1], c=tint, **style)

    if values is None:
        draw(slice(None), ACCENT)
    elif is_number:
        _draw_numbers(ax, draw, values.to_numpy(dtype=float, na_value=np.nan), str(color))
    else:
        tints = _style.label_colors(list(values.categories), samples.uns.get(f"{color}_colors"))
        parts = [(values == name, tint, name) for name, tint in tints.items()]
        parts.append((values.isna(), GREY, _UNKNOWN))
        entries = [(draw(among, tint), name) for among, tint, name in parts if among.any()]
        _style.draw_legend(ax, entries, n_rows=21, widen=widen, title=color, handletextpad=0.3)
    is_pca = basis == "X_pca"
    ratio = samples.uns.get("pca", {}).get("variance_ratio", ()) if is_pca else ()
    name = "PC" if is_pca else f"{basis.removeprefix('X_')} "
    shares = [f" ({share:.0%} of the variance)" for share in np.asarray(ratio)[:2]] + ["", ""]
    if is_line:
        ax.set_yticks([])
    ax.margins(0.14, 0.18)
    _style.finish(ax, f"{name}1{shares[0]}", "" if is_line else f"{name}2{shares[1]}", ticks=7)
    if samples.n_obs <= MAX_NAMES:
        _style.draw_names(ax, position, samples.obs_names, upright=is_line)
    return ax


def _draw_numbers(ax: Axes, draw: Any, values: np.ndarray, name: str) -> None:
    """Draw samples by a number with its scale, and note above the plot that some have none."""
    known = np.isfinite(values)
    if known.any():
        _draw_scale(ax, draw(known, values[known], cmap="viridis"), name)
    if not known.all():
        grey = draw(~known, GREY)
        place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "frameon": False}
        ax.legend([grey], [f"{name} {_UNKNOWN}"], fontsize=8, handletextpad=0.3, **place)


def _draw_scale(ax: Axes, points: PathCollection, name: str, **place: Any) -> None:
    scale = ax.figure.colorbar(points, ax=ax, shrink=0.8, **place)
    scale.set_label(name, fontsize=8, color=_style.INK)
    scale.ax.tick_params(labelsize=7)
    scale.outline.set_visible(False)
