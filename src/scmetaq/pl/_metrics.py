"""Numbers in panels: metrics of methods, curves of training and over the number of metacells."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from scmetaq import _keys
from scmetaq._errors import InputTypeError, InputValueError
from scmetaq.pl import _style

SHOWN = ("compactness", "separation", "purity", "balanced_accuracy")
# these come multiplied by `n_metacells * size / n_cells` of the metacell
WEIGHTED = ("compactness", "separation")
METHOD, MODALITY = "method", "modality"
HINTS = {"higher": "higher is better →", "lower": "← lower is better"}
LABELS = {
    "margin": "margin (similarity difference)",
    "reconstruction_ratio": "reconstruction ratio",
    "prediction_error": "prediction error",
}
_GAP = 4.0  # points between the second axis with its label and the third axis
TOTAL = "loss"
PANELS = {
    "reconstruction": "reconstruction loss",
    "codebook_loss": "codebook loss",
    "commitment": "codebook loss",
    "perplexity": "codebook perplexity",
    "empty": "empty codes",
    "unused": "empty codes",
}
"""Panel of a quantity by a word in its name."""
MOST_COLUMNS = 5  # panels side by side that can still be read on a page


def metrics(
    frame: pd.DataFrame,
    which: str | Sequence[str] | None = None,
    *,
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draw the table of ``scmetaq.metrics.evaluate``, one panel per metric.

    Metrics of metacells are drawn as boxes (quartiles, and whiskers to the 5th and 95th
    percentile) with the table's mean, which is written at them; metrics of whole assignments as
    one point. Boxes of compactness and separation, which the table has weighted by size so that
    their mean is one over cells, are without these weights, if it has ``n_cells``.

    Parameters
    ----------
    frame
        Tidy table with the columns ``metric``, ``value`` and ``better``; with ``method``, methods
        are drawn side by side in order of appearance; with ``modality``, each has its panels.
    which
        Metrics to draw, in order, or the name of one. None: compactness, separation, purity and
        balanced accuracy, those that the table has.
    axes
        One Axes per metric; None: of a new figure.

    Returns
    -------
    The panels, shape ``(n_metrics,)``.
    """
    there, asked = set(frame["metric"]), [which] if isinstance(which, str) else which or SHOWN
    absent = [metric for metric in asked if metric not in there]
    if (which is not None and absent) or len(absent) == len(asked):
        problem = "Expected `which` metrics the table has, found"
        raise InputValueError(f"{problem} no {absent} among {sorted(there)}.")
    which = [metric for metric in asked if metric in there]
    own = own_values(frame := frame.reset_index(drop=True))
    frame, which = _of_each_modality(frame, which)
    frame = frame if METHOD in frame else frame.assign(method="")
    methods = list(dict.fromkeys(frame[METHOD]))
    colors = _style.label_colors([str(m) for m in methods]) if len(methods) > 1 else {}
    size = (2.2 * len(which) + 0.8, 1.15 + 0.42 * len(methods))
    panels = _style.new_panels(axes, len(which), "metric", size, ncols=len(which), sharey=True)
    for ax, metric in zip(panels, which, strict=True):
        rows = frame[frame["metric"] == metric]
        for at, method in enumerate(methods):
            of = rows[rows[METHOD] == method]
            values = own[of.index].dropna().to_numpy()
            _draw_row(ax, at, values, of["value"].mean(), colors.get(str(method), _style.ACCENT))
        ax.set_title(metric.replace("_", " "), fontsize=9, color=_style.INK)
        hint = HINTS.get(rows["better"].iloc[0], "")
        _style.finish(ax, hint, size=7.5, ticks=7.5, grid="x", keep=("bottom",))
        _set_range(ax, own[rows.index])
        ax.set_ylim(len(methods) - 0.5, -0.65)
        names = [_style.literal(str(method)) for method in methods]
        ax.set_yticks(range(len(methods)), names, fontsize=8)
        ax.tick_params(axis="y", length=0, labelleft=ax is panels[0])
    return panels


def own_values(frame: pd.DataFrame) -> pd.Series:
    """Values of a table of ``evaluate`` without the weights by size, if it has ``n_cells``."""
    columns = (METHOD, MODALITY, _keys.METACELL)
    keys = [frame.get(name, pd.Series("", frame.index)) for name in columns]
    sizes = frame["value"].where(frame["metric"] == _keys.N_CELLS)
    mean = sizes.groupby(keys[:2], dropna=False).transform("mean")
    weight = sizes.groupby(keys, dropna=False).transform("first") / mean
    is_weighted = frame["metric"].isin(WEIGHTED) & weight.notna()
    return frame["value"] / weight.where(is_weighted, 1)


def _of_each_modality(frame: pd.DataFrame, which: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Regard a metric of each modality as a metric of its own: ``compactness, rna``."""
    if MODALITY not in frame:
        return frame, which
    of = frame[MODALITY].map(lambda name: f", {name}", na_action="ignore").fillna("")
    frame = frame.assign(metric=frame["metric"] + of)
    there = list(dict.fromkeys(frame["metric"]))
    return frame, [name for metric in which for name in there if name.split(",")[0] == metric]


def _draw_row(ax: Axes, at: int, values: np.ndarray, mean: float, color: str) -> None:
    """Draw one method's values: a box if there are several, and their mean over cells."""
    if len(values) == 0:
        return
    if len(values) > 1:
        low, first, median, third, high = np.percentile(values, [5, 25, 50, 75, 95])
        ax.plot([low, high], [at, at], color=color, linewidth=1, zorder=1)
        ax.barh(at, third - first, 0.5, left=first, color=color, alpha=0.35, zorder=2)
        ax.plot([median] * 2, [at - 0.25, at + 0.25], color=color, linewidth=1.4, zorder=3)
    edges: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.8}
    # not clipped, as zero may be the end of the axis
    ax.scatter(mean, at, s=26, color=color, zorder=4, clip_on=False, **edges)
    is_short = mean.is_integer() or abs(mean) >= 100  # else three significant digits
    text = f"{mean:,.0f}" if is_short else f"{mean:#.3g}".removesuffix(".")
    _style.write(ax, text, (mean, at - 0.28), 7, xytext=(0, 1), ha="center", va="bottom")


def _set_range(ax: Axes, values: pd.Series) -> None:
    """Keep a lone or nearly constant number from being blown up to a picture of noise."""
    ax.margins(x=0.12)
    low, high = ax.get_xlim()
    beyond = 0.2 * max(abs(low), abs(high)) - (high - low)
    if beyond > 0:
        low, high = low - beyond / 2, high + beyond / 2
    if values.min() >= 0:
        low = max(low, 0)
    ax.set_xlim(low, high if values.any() else 1)


def granularity(curve: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw margin, reconstruction ratio and prediction error over the number of metacells.

    Parameters
    ----------
    curve
        Output of :func:`scmetaq.tl.choose_n_metacells`: indexed by the number of metacells, with
        ``margin``, ``reconstruction_ratio`` and, if there, ``prediction_error``; the number in
        ``attrs["suggested"]``, if there, is marked.
    ax
        Axes to draw on; None: of a new figure. The ratio has a second axis on their right, and the
        error a third one outside of it.

    Raises
    ------
    TypeError, KeyError
        Not a DataFrame, or a column is missing.
    """
    if not isinstance(curve, pd.DataFrame):
        raise InputTypeError(f"Expected `curve` as a DataFrame, found {type(curve).__name__}.")
    *needed, error = LABELS
    for name in needed:
        _style.entry(curve, name, "curve", "column", "Make it by `scmetaq.tl.choose_n_metacells`.")
    ax = _style.new_axes(ax, 4.6, 3.0)
    right = ax.twinx()
    outside = ax.twinx() if error in curve else None
    colors = (_style.ACCENT, _style.PALETTE[5], _style.PALETTE[1])
    drawn = [of for of in (ax, right, outside) if of is not None]
    for axes, (name, label), color in zip(drawn, LABELS.items(), colors, strict=False):
        axes.plot(curve.index, curve[name], color=color, marker="o", markersize=3, linewidth=1.3)
        axes.set_ylabel(label, fontsize=9, color=color)
        # written above the axes, the offsets of two of them would cover each other
        axes.ticklabel_format(axis="y", useOffset=False)
        _style.finish(axes, ticks=8, keep=("left", "bottom") if axes is ax else ("right",))
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    # up to six of the numbers, evenly among them
    at = np.linspace(0, len(curve) - 1, min(6, len(curve)))
    ax.set_xticks(curve.index[at.round().astype(int)])
    _style.finish(ax, "metacells", size=9)
    if outside is not None:
        figure: Any = right.get_figure(root=True)
        figure.draw_without_rendering()  # ticks depend on the final size of the plot
        box: Any = right.get_tightbbox()  # of the tick labels and the label, too
        beyond = (box.x1 - right.bbox.x1) / figure.dpi * 72
        outside.spines["right"].set_position(("outward", beyond + _GAP))
    suggested = curve.attrs.get("suggested")
    if suggested is not None:
        _style.mark_number(ax, suggested, f"suggested: {suggested}", xytext=(-4, 6), ha="center")
    return ax


def training(
    history: Mapping[str, pd.DataFrame | pd.Series], *, axes: Sequence[Axes] | None = None
) -> np.ndarray:
    """Draw losses and use of the codebook over epochs, from zero unless some are negative.

    Parameters
    ----------
    history
        A model's ``history``: per key a table of one column indexed by epoch. Keys are grouped
        into panels: total, reconstruction (plain and quantised) and codebook loss, perplexity and
        empty codes; others are left out. Endings ``_train`` and ``_validation`` become solid and
        dashed lines. A quantity of a modality, such as ``reconstruction_loss_rna``, has a panel
        of its own where there is also that of all of them.
    axes
        One Axes per panel; None: of a new figure.

    Returns
    -------
    The panels, shape ``(n_panels,)``.
    """
    groups = _grouped(history)
    n = len(groups)
    n_rows = -(-n // MOST_COLUMNS)
    n_columns = -(-n // n_rows)
    size = (2.5 * n_columns, 2.3 * n_rows)
    panels = _style.new_panels(axes, n, "panel", size, nrows=n_rows, ncols=n_columns)
    for ax, (title, curves) in zip(panels, groups.items(), strict=True):
        _draw_curves(ax, curves)
        ax.set_title(title, fontsize=9, color=_style.INK)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        ax.ticklabel_format(axis="y", useOffset=False)
        if min(curve.min() for curve in curves.values()) >= 0:
            ax.set_ylim(bottom=0)  # a fall of one per cent looks like one
        _style.finish(ax, "epoch", ticks=7.5, grid="y")
    return panels


def _grouped(history: Mapping[str, pd.DataFrame | pd.Series]) -> dict[str, dict[str, pd.Series]]:
    """Sort curves into panels by the names of their quantities, in the order of the panels."""
    quantities = {_split(key)[0] for key in history}
    groups: dict[str, dict[str, pd.Series]] = {}
    for key, table in history.items():
        column = table.iloc[:, 0] if isinstance(table, pd.DataFrame) else table
        curve = pd.to_numeric(column, errors="coerce")
        quantity = _split(key)[0]
        title = next((title for word, title in PANELS.items() if word in quantity), "")
        title = TOTAL if quantity == TOTAL else title
        if title and not key.endswith("_step") and curve.notna().any():
            whole, _, part = quantity.rpartition("_")  # a modality, where there is the whole too
            name = f"{title}, {part}" if whole in quantities else title
            groups.setdefault(name, {})[key] = curve
    if not groups:
        problem = f"Expected a training `history` with losses, found the keys {sorted(history)}."
        raise InputValueError(problem, "Pass `model.history` after `model.train()`.")
    titles = [TOTAL, *dict.fromkeys(PANELS.values())]
    order = sorted(groups, key=lambda title: (titles.index(title.split(",")[0]), "," in title))
    return {title: groups[title] for title in order}


def _split(key: str) -> tuple[str, bool]:
    """Part a key into the quantity and whether it is of training: ``loss``, True."""
    key = key.removesuffix("_epoch")
    for split in ("train", "validation"):
        if key.startswith(f"{split}_") or key.endswith(f"_{split}"):
            return key.removesuffix(f"_{split}").removeprefix(f"{split}_"), split == "train"
    return key, True


def _draw_curves(ax: Axes, curves: Mapping[str, pd.Series]) -> None:
    quantities = list(dict.fromkeys(_split(key)[0] for key in curves))
    for key, curve in curves.items():
        quantity, is_train = _split(key)
        curve = curve.dropna()
        name = f"{quantity}, " if len(quantities) > 1 else ""
        ax.plot(
            curve.index,
            curve.to_numpy(),
            color=_style.PALETTE[quantities.index(quantity) % len(_style.PALETTE)],
            linestyle="-" if is_train else (0, (3, 1.5)),
            linewidth=1.3,
            marker="o" if len(curve) == 1 else "",  # one point makes no line
            markersize=4,
            markerfacecolor=None if is_train else "white",
            label=f"{name}{'train' if is_train else 'validation'}".replace("_", " "),
        )
    if len(curves) > 1:
        ax.legend(frameon=False, fontsize=6.5, handlelength=1.6)
