"""Cells in two dimensions with their metacells over them."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputTypeError, InputValueError
from scmetaq.pl._style import (
    ACCENT,
    COLORS,
    GREY,
    NO_LABEL,
    as_categories,
    draw_legend,
    label_colors,
    name_axes,
    new_axes,
    strip_frame,
)

LARGEST_AREA = 170.0
"""Area of the largest metacell's marker, points squared."""
_DENSE = {"labelspacing": 0.35, "fontsize": 7.5}
"""Style of a legend with many entries."""


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
    colour is that of their majority label. Cells without a metacell (missing, or -1)
    are drawn all the same.

    Parameters
    ----------
    adata
        Cells with an assignment and an embedding.
    metacell
        Column of ``obs`` with each cell's metacell.
    basis
        Entry of ``obsm`` with the embedding, shape ``(n_cells, 2)`` or more columns, of which
        the first two are drawn.
    color
        Column of ``obs`` with up to 100 labels. Colours are ``uns["<color>_colors"]`` if there;
        cells without a label are grey. None: all cells grey.
    ax
        Axes to draw on; None: of a new figure.

    Raises
    ------
    KeyError
        No such column or embedding.
    TypeError
        Decimal numbers in place of labels.
    ValueError
        No cell has a metacell, too many labels, colours that are none, or an embedding of one
        column.
    """
    cells = _cells(adata, metacell, basis, color)
    chosen = None if color is None else adata.uns.get(f"{color}_colors")
    colors = label_colors(list(cells["label"].cat.categories), chosen)
    present = set(cells["label"])
    colors = {label: tint for label, tint in colors.items() if label in present}
    metacells = _metacells(cells)
    widen = ax is None
    ax = new_axes(ax, 6.4 if color else 5.6, 4.4)
    plain = GREY if color else ACCENT
    _draw_cells(ax, cells, colors)
    per_cell = LARGEST_AREA / metacells["size"].max()
    ax.scatter(
        metacells["x"],
        metacells["y"],
        s=metacells["size"] * per_cell,
        c=[colors.get(label, plain) for label in metacells["label"]],
        edgecolors="white",
        linewidths=0.9,
        alpha=0.95,
        zorder=3,
    )
    dots = [(_dot(tint, 6.0), label) for label, tint in colors.items()]
    if color and cells["label"].isna().any():
        dots.append((_dot(GREY, 6.0), NO_LABEL))
    dots += [(_dot("none", 1.0), "")] if dots else []
    dots += [
        (_dot(plain, float(np.sqrt(n * per_cell))), f"{n} cell{'s' * (n > 1)}")
        for n in _round_steps(int(metacells["size"].max()))
    ]
    style = {"labelspacing": 0.55, "fontsize": 8} if len(dots) < 18 else _DENSE
    draw_legend(ax, dots, n_rows=26, widen=widen, handletextpad=0.4, **style)
    name = basis.removeprefix("X_")
    name = name.upper() if len(name) <= 4 else name
    ax.set(xticks=[], yticks=[])
    name_axes(ax, f"{name} 1", f"{name} 2")
    strip_frame(ax)
    return ax


def _cells(adata: AnnData, metacell: str, basis: str, color: str | None) -> pd.DataFrame:
    """Collect position, metacell and label of each cell."""
    if basis not in adata.obsm:
        raise InputKeyError(
            f"Expected `basis` to name an embedding in `obsm`, found no {basis!r}. "
            f"Embeddings there: {sorted(adata.obsm)}.",
            "Compute one, e.g. by `sc.tl.umap`.",
            "basis",
        )
    for argument, name in (("metacell", metacell), ("color", color)):
        if name is not None and name not in adata.obs:
            raise InputKeyError(
                f"Expected a column of `obs`, found no {name!r}. "
                f"Columns there: {sorted(map(str, adata.obs.columns))}.",
                argument=argument,
            )
    names = adata.obs[metacell].astype(object).where(adata.obs[metacell] != -1)
    if names.isna().all():
        raise InputValueError(
            f"Expected cells with a metacell in {metacell!r}, found none among {adata.n_obs}.",
            "Write an assignment there first.",
            "metacell",
        )
    position: np.ndarray = np.asarray(adata.obsm[basis])
    if position.ndim != 2 or position.shape[1] < 2:
        raise InputValueError(
            f"Expected at least two columns in `obsm[{basis!r}]`, found shape {position.shape}.",
            "Name an embedding in two dimensions.",
            "basis",
        )
    labels = [None] * adata.n_obs if color is None else adata.obs[color]
    x, y = position[:, 0], position[:, 1]
    label = _as_labels(labels, color)
    return pd.DataFrame({"x": x, "y": y, "metacell": names.to_numpy(), "label": label})


def _as_labels(values: Any, color: str | None) -> pd.Categorical:
    if pd.api.types.is_float_dtype(values) and (pd.Series(values).dropna() % 1 != 0).any():
        raise InputTypeError(
            f"Expected labels in {color!r}, found decimal numbers.",
            "Name a column with categories, e.g. cell types.",
            "color",
        )
    labels = as_categories(values)
    n_present = len(labels.remove_unused_categories().categories)
    if n_present > len(COLORS):
        raise InputValueError(
            f"Expected at most {len(COLORS)} labels in {color!r}, found {n_present:,}, more than "
            "there are colours.",
            "Name a column with fewer.",
            "color",
        )
    return labels


def _metacells(cells: pd.DataFrame) -> pd.DataFrame:
    """Mean position, size and majority label of each metacell."""
    groups = cells.groupby("metacell", observed=True)
    table = groups[["x", "y"]].mean().assign(size=groups.size())
    counts = pd.crosstab(cells["metacell"], cells["label"])
    table["label"] = counts.idxmax(axis=1) if len(counts) > 0 else None
    # the large first, so that no small one is hidden
    return table.sort_values("size", ascending=False)


def _draw_cells(ax: Axes, cells: pd.DataFrame, colors: dict[str, str]) -> None:
    tints = np.array([colors.get(label, GREY) for label in cells["label"]])
    # one shuffled layer: drawn label by label, the last would cover the others
    order = np.random.default_rng(0).permutation(len(cells))
    ax.scatter(
        cells["x"].to_numpy()[order],
        cells["y"].to_numpy()[order],
        s=float(np.clip(12_000 / len(cells), 0.6, 9)),
        c=tints[order],
        alpha=0.35 if colors else 0.55,
        linewidths=0,
        rasterized=True,
    )


def _dot(color: str, diameter: float) -> Line2D:
    return Line2D(
        [], [], marker="o", linestyle="", color=color, markersize=diameter, markeredgewidth=0
    )


def _round_steps(largest: int) -> list[int]:
    """Up to three round sizes not above the largest: 1, 2 or 5 times a power of ten."""
    rounds = [m * 10**p for p in range(9) for m in (1, 2, 5)]
    fitting = [n for n in rounds if n <= largest]
    return fitting[-1:-6:-2][::-1]
