"""Cells in two dimensions with their metacells over them."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from scmetaq import _keys
from scmetaq.pl._style import ACCENT, GREY, INK, label_colors, new_axes, strip_frame

LARGEST_AREA = 170.0
"""Area of the largest metacell's marker, points squared."""


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
    colour is that of their majority label. Cells without a metacell (missing, or the number -1)
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
        Column of ``obs`` with labels. Colours are ``uns["<color>_colors"]`` if there. None:
        cells grey.
    ax
        Axes to draw on; None: of a new figure.
    """
    cells = _cells(adata, metacell, basis, color)
    chosen = None if color is None else adata.uns.get(f"{color}_colors")
    colors = label_colors(list(cells["label"].cat.categories), chosen)
    present = set(cells["label"])
    colors = {label: tint for label, tint in colors.items() if label in present}
    metacells = _metacells(cells)
    ax = new_axes(ax, 6.4 if color else 5.6, 4.4)
    _draw_cells(ax, cells, colors)
    per_cell = LARGEST_AREA / metacells["size"].max()
    _draw_metacells(ax, metacells, colors, per_cell)
    _draw_legend(ax, colors, metacells["size"], per_cell)
    _label_axes(ax, basis)
    return ax


def _cells(adata: AnnData, metacell: str, basis: str, color: str | None) -> pd.DataFrame:
    """Collect position, metacell and label of each cell."""
    if basis not in adata.obsm:
        raise KeyError(
            f"Expected `basis` to name an embedding in `obsm`, found no {basis!r}. "
            f"Embeddings there: {sorted(adata.obsm)}. Compute one, e.g. by `sc.tl.umap`."
        )
    for name in (metacell, color):
        if name is not None and name not in adata.obs:
            raise KeyError(
                f"Expected a column of `obs`, found no {name!r}. "
                f"Columns there: {sorted(map(str, adata.obs.columns))}."
            )
    names = adata.obs[metacell].astype(object).where(adata.obs[metacell] != -1)
    if names.isna().all():
        raise ValueError(
            f"Expected cells with a metacell in {metacell!r}, found none among {adata.n_obs}. "
            "Write an assignment there first."
        )
    position: np.ndarray = np.asarray(adata.obsm[basis])
    labels = [None] * adata.n_obs if color is None else adata.obs[color]
    return pd.DataFrame(
        {
            "x": position[:, 0],
            "y": position[:, 1],
            "metacell": names.to_numpy(),
            "label": _as_labels(labels, color),
        }
    )


def _as_labels(values: Any, color: str | None) -> pd.Categorical:
    if pd.api.types.is_float_dtype(values):
        raise TypeError(
            f"Expected labels in {color!r}, found decimal numbers. "
            "Name a column with categories, e.g. cell types."
        )
    labels = pd.Categorical(values)
    return labels.rename_categories(labels.categories.astype(str))


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
    area = float(np.clip(12_000 / len(cells), 0.6, 9))
    ax.scatter(
        cells["x"].to_numpy()[order],
        cells["y"].to_numpy()[order],
        s=area,
        c=tints[order],
        alpha=0.35 if colors else 0.55,
        linewidths=0,
        rasterized=True,
    )


def _draw_metacells(
    ax: Axes, metacells: pd.DataFrame, colors: dict[str, str], per_cell: float
) -> None:
    plain = GREY if colors else ACCENT
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


def _draw_legend(ax: Axes, colors: dict[str, str], sizes: pd.Series, per_cell: float) -> None:
    """Draw one key outside on the right: labels, then sizes."""
    dots = [_dot(color, 6.0, label) for label, color in colors.items()]
    dots += [_dot("none", 1.0, "")] if dots else []
    plain = GREY if colors else ACCENT
    for n in _round_steps(int(sizes.max())):
        dots.append(_dot(plain, float(np.sqrt(n * per_cell)), f"{n} cell{'s' * (n > 1)}"))
    ax.legend(
        handles=dots,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        ncols=1 + len(dots) // 26,
        frameon=False,
        handletextpad=0.4,
        labelspacing=0.55 if len(dots) < 18 else 0.35,
        fontsize=8 if len(dots) < 18 else 7.5,
    )


def _dot(color: str, diameter: float, label: str) -> Line2D:
    return Line2D(
        [],
        [],
        marker="o",
        linestyle="",
        color=color,
        markersize=diameter,
        markeredgewidth=0,
        label=label,
    )


def _round_steps(largest: int) -> list[int]:
    """Up to three round sizes not above the largest: 1, 2 or 5 times a power of ten."""
    rounds = [m * 10**p for p in range(9) for m in (1, 2, 5)]
    fitting = [n for n in rounds if n <= largest]
    return fitting[-1:-6:-2][::-1]


def _label_axes(ax: Axes, basis: str) -> None:
    name = basis.removeprefix("X_")
    name = name.upper() if len(name) <= 4 else name
    ax.set(xticks=[], yticks=[], xlabel=f"{name} 1", ylabel=f"{name} 2")
    ax.xaxis.label.set(color=INK, fontsize=8)
    ax.yaxis.label.set(color=INK, fontsize=8)
    strip_frame(ax)
