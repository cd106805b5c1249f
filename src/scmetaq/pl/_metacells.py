"""Metacells by their conditions, labels and sizes, and cells by their labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from mudata import MuData
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputValueError, check_unique
from scmetaq.pl import _style

UNKNOWN = "unknown"  # column of cells that were taken to be of an unknown type
_LEAST_SHOWN = 0.005  # fractions below it would be written as zero
_MOST_LABELS = 25  # with more labels numbers do not fit into the fields
_MAKE = "Make metacells by `scmetaq.tl.aggregate`."


def composition(
    counts: pd.DataFrame,
    groups: pd.Series | None = None,
    *,
    colors: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the shares of conditions in each metacell, side by side.

    Parameters
    ----------
    counts
        Cells of each metacell (rows, in this order) and condition (columns), as of
        ``pandas.crosstab``. More than 100 conditions have no legend, as some share a colour.
    groups
        Group of each metacell, such as its majority label, indexed like ``counts``: a line
        separates different ones, wide ones are named. Missing: "no label".
    colors
        Colour of each condition. None: those of the package.
    ax
        Axes to draw on; None: of a new figure.

    Raises
    ------
    ValueError
        No counts, a negative one, a metacell without cells, conditions of one name, or metacells
        without an entry in ``groups``.
    """
    names = [_keys.as_name(name) for name in counts.columns]
    wrong = counts.index[(counts.sum(axis=1) <= 0) | (counts < 0).any(axis=1)]
    if counts.empty or len(wrong):
        row = f" with {counts.loc[wrong[0]].tolist()} in {wrong[0]!r}" if len(wrong) else ""
        problem = "Expected `counts`, none below zero, with cells in each metacell, found shape"
        raise InputValueError(f"{problem} {counts.shape}{row}.")
    fix = "sum them, e.g. by `counts.T.groupby(level=0).sum().T`"
    check_unique(pd.Index(names), "columns of `counts`", fix)
    without = [] if groups is None else counts.index.difference(groups.index)
    if len(without):
        missing = f"{len(without)} of {len(counts)}, e.g. {without[0]!r}"
        raise InputValueError(f"Expected `groups` of all metacells, found none for {missing}.")
    widen = ax is None
    ax = _style.new_axes(ax, 7.2, 2.6)
    shares = counts.div(counts.sum(axis=1), axis=0).to_numpy()
    tops = np.cumsum(shares, axis=1)  # K x B
    edges = np.arange(len(counts) + 1)
    tints = _style.label_colors(names, colors)
    bottom = np.zeros(len(edges))
    for i, color in enumerate(tints.values()):
        # one shape per condition, so that thousands of metacells stay a small picture
        top = np.append(tops[:, i], tops[-1, i])
        ax.fill_between(edges, bottom, top, step="post", color=color, linewidth=0)
        bottom = top
    if groups is not None:
        _draw_groups(ax, groups.loc[counts.index])
    ax.set(xlim=(0, len(counts)), ylim=(0, 1))
    if len(tints) <= len(_style.COLORS):
        entries = [(Patch(color=color, linewidth=0), name) for name, color in tints.items()]
        _style.draw_legend(ax, entries, n_rows=14, widen=widen)
    _style.finish(ax, f"{len(counts):,} metacells", "share of cells", ticks=7)
    return ax


def _draw_groups(ax: Axes, groups: pd.Series) -> None:
    """Separate neighbours of different groups, and name those with room for it."""
    names = _style.as_categories(groups).astype(object)
    names = np.where(pd.isna(names), _style.NO_LABEL, names)
    starts = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    ax.set_xticks([])
    for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
        if start:
            ax.axvline(float(start), color="white", linewidth=1.4)
        if (end - start) / len(names) > 0.012 * len(names[start]) / 1.6:
            text: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 7}
            name = _style.literal(names[start])
            ax.text((start + end) / 2, 1.02, name, color=_style.INK, **text)


def purity(
    metacells: AnnData | MuData | pd.DataFrame, label: str | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw the fraction of each metacell's cells that carry its majority label, by that label.

    Parameters
    ----------
    metacells
        Metacells with the columns ``<label>`` and ``<label>_fraction`` in ``obs``, as made by
        ``scmetaq.tl.aggregate``; or that ``obs`` itself.
    label
        Column with the majority label. None: the first one that has its fraction.
    ax
        Axes to draw on; None: of a new figure.

    Raises
    ------
    KeyError, ValueError
        No such column, or none with its fraction; or no metacell has a label.
    """
    obs, suffix = _obs_of(metacells), _keys.FRACTION_SUFFIX
    there = [str(c) for c in obs.columns if f"{c}{suffix}" in obs]
    found = there[0] if label is None and there else label
    if found not in there:
        problem = f"Expected `label` {label!r} with its fraction in columns of `obs`, found"
        raise InputKeyError(f"{problem} such pairs for {there}.", _MAKE)
    majority = _style.as_categories(obs[found])
    if majority.isna().all():
        problem = f"Expected metacells with a label in {found!r}, found none among {len(obs)}."
        raise InputValueError(problem)
    uns = {} if isinstance(metacells, pd.DataFrame) else metacells.uns
    colors = _style.label_colors(list(majority.categories), uns.get(f"{found}_colors"))
    names = list(majority.remove_unused_categories().categories)
    values = [obs.loc[majority == name, f"{found}{suffix}"].to_numpy() for name in names]
    ax = _style.new_axes(ax, 3.8 + 0.06 * max(map(len, names)), 0.8 + 0.26 * len(names))
    for row, (name, fractions) in enumerate(zip(names, values, strict=True)):
        if len(fractions) > 3:  # points over their quartiles and median
            first, median, third = np.percentile(fractions, [25, 50, 75])
            box: dict[str, Any] = {"color": colors[name], "alpha": 0.25, "linewidth": 0}
            ax.barh(row, third - first, 0.62, left=first, **box)
            at = [row - 0.31, row + 0.31]
            ax.plot([median] * 2, at, color=_style.INK, linewidth=1.4, zorder=4)
        # multiples of the golden ratio fill the band evenly, and are always the same
        heights = row + ((np.arange(len(fractions)) * 0.6180339887498949 + 0.5) % 1 - 0.5) * 0.5
        dots: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.4, "clip_on": False}
        ax.scatter(fractions, heights, s=14, color=colors[name], zorder=3, **dots)
    rows = [f"{_style.literal(n)}  ({len(v)})" for n, v in zip(names, values, strict=True)]
    ax.set_yticks(range(len(names)), rows)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(min(0.5, min(v.min() for v in values) - 0.02), 1.015)
    title = "purity: fraction of cells with the majority label"
    _style.finish(ax, title, ticks=8, grid="x", keep=("bottom",))
    ax.tick_params(axis="y", length=0)
    return ax


def _obs_of(data: Any) -> Any:
    return data if isinstance(data, pd.DataFrame | pd.Series) else getattr(data, "obs", data)


def size(
    sizes: AnnData | MuData | pd.DataFrame | pd.Series | ArrayLike, *, ax: Axes | None = None
) -> Axes:
    """Draw how many cells the metacells have.

    Parameters
    ----------
    sizes
        Metacells with ``obs["n_cells"]``, that ``obs`` itself, or cells per metacell, shape
        ``(n_metacells,)``.
    ax
        Axes to draw on; None: of a new figure.

    Raises
    ------
    KeyError, ValueError
        Metacells without their sizes; or not one finite number per metacell.
    """
    found = _obs_of(sizes)
    if isinstance(found, pd.DataFrame):
        found = _style.entry(found, _keys.N_CELLS, "obs", "sizes", _MAKE)
    values = np.asarray(found, dtype=float)
    n_unknown = int((~np.isfinite(values)).sum())
    if values.ndim != 1 or len(values) == 0 or n_unknown:
        raise InputValueError(
            "Expected `sizes` as the number of cells of each metacell, shape (n_metacells,), found "
            f"shape {values.shape}, {n_unknown} of them missing or infinite."
        )
    ax = _style.new_axes(ax, 4.2, 2.8)
    # up to 30 bins that hold the same number of whole sizes
    width = max(1, int(np.ceil((values.max() - values.min() + 1) / 30)))
    bins = np.arange(values.min(), values.max() + width + 1, width) - 0.5
    ax.hist(values, bins=list(bins), color=_style.ACCENT, edgecolor="white", linewidth=0.6)
    median = float(np.median(values))
    _style.mark_number(ax, median, f"median {median:g}", xytext=(4, -2), va="top")
    ax.set_xlim(left=0)
    ax.set_ylim(top=ax.get_ylim()[1] * 1.12)  # room for the text
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _style.finish(ax, "cells per metacell", "metacells", size=9, ticks=8)
    return ax


def confusion(
    cells: AnnData | MuData | pd.DataFrame, truth: str, predicted: str, *, ax: Axes | None = None
) -> Axes:
    """Draw which labels cells were given, by the labels that they have.

    Rows are labels that cells have, with the number of cells, columns those that they were given;
    fields hold the fraction of the row. Cells of an unknown type by ``<predicted>_unknown``, if
    there, as of ``predict_labels``, have a column of their own.

    Parameters
    ----------
    cells
        Cells with both columns in ``obs``, or that ``obs`` itself, for example
        ``model.predict_labels(query).assign(truth=query.obs["cell_type"])``.
    truth
        Column with the labels that cells have; those without one are left out.
    predicted
        Column with the labels that they were given.
    ax
        Axes to draw on; None: of a new figure.

    Raises
    ------
    KeyError, ValueError
        No such column; or no cell has both labels.
    """
    obs = _obs_of(cells)
    names = {"truth": truth, "predicted": predicted}
    labels = [_style.entry(obs, name, "obs", argument) for argument, name in names.items()]
    has_both = labels[0].notna() & labels[1].notna()
    if not has_both.any():
        raise InputValueError(f"Expected cells with both {truth!r} and {predicted!r}, found none.")
    known, given = (_style.as_categories(of[has_both]).astype(object) for of in labels)
    flag = f"{predicted}{_keys.UNKNOWN_SUFFIX}"
    if flag in obs:
        given = np.where(obs.loc[has_both, flag].astype(bool), UNKNOWN, given)
    table = _fractions(known, given)
    n_rows, n_columns = table.shape
    side = 0.07 * max(len(name) for name in (*table.index, *table.columns))
    ax = _style.new_axes(ax, 1.4 + side + 0.36 * n_columns, 0.9 + side + 0.3 * n_rows)
    ax.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if max(table.shape) <= _MOST_LABELS:
        for row, column in zip(*np.nonzero(table.to_numpy() >= _LEAST_SHOWN), strict=True):
            value = table.iat[row, column]
            color = "white" if value > 0.6 else _style.INK
            text = f"{value:.2f}".removeprefix("0") if value < 1 else "1"
            ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color=color)
    ax.set_yticks(range(n_rows), list(map(_style.literal, table.index)), fontsize=8)
    ax.set_xticks(
        range(n_columns), list(map(_style.literal, table.columns)), fontsize=8, rotation=90
    )
    ax.set_xticks(np.arange(n_columns + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
    ax.grid(which="minor", color=_style.GREY, linewidth=0.4)
    _style.finish(ax, f"predicted {_style.literal(predicted)}", _style.literal(truth), keep=())
    ax.tick_params(which="both", length=0)
    return ax


def _fractions(known: Any, given: Any) -> pd.DataFrame:
    """Share of the cells of each label that were given each; the diagonal comes first."""
    table = pd.crosstab(np.asarray(known), np.asarray(given))
    others = [name for name in table.columns if name not in table.index and name != UNKNOWN]
    order = [*table.index, *others, *([UNKNOWN] if UNKNOWN in table.columns else [])]
    table = table.reindex(columns=list(dict.fromkeys(order)), fill_value=0)
    sizes = table.sum(axis=1)
    table = table.div(sizes, axis=0)
    table.index = pd.Index([f"{name}  ({n:,})" for name, n in sizes.items()])
    return table
