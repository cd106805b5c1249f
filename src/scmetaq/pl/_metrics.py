"""Metrics of one or several methods side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scmetaq import _keys
from scmetaq._errors import InputValueError
from scmetaq.pl import _style

SHOWN = ("compactness", "separation", "purity", "balanced_accuracy")
# these come multiplied by `n_metacells * size / n_cells` of the metacell
WEIGHTED = ("compactness", "separation")
METHOD, MODALITY = "method", "modality"
HINTS = {"higher": "higher is better →", "lower": "← lower is better"}


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
    which = _present(frame, [which] if isinstance(which, str) else which)
    own = own_values(frame := frame.reset_index(drop=True))
    frame, which = _of_each_modality(frame, which)
    methods = list(dict.fromkeys(frame[METHOD])) if METHOD in frame else [""]
    colors = _style.label_colors([str(m) for m in methods]) if len(methods) > 1 else {}
    size = (2.2 * len(which) + 0.8, 1.15 + 0.42 * len(methods))
    panels = _style.new_panels(axes, len(which), "metric", size, ncols=len(which), sharey=True)
    for ax, metric in zip(panels, which, strict=True):
        rows = frame[frame["metric"] == metric]
        for at, method in enumerate(methods):
            of = rows[rows[METHOD] == method] if METHOD in frame else rows
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
    of = [column for column in (METHOD, MODALITY) if column in frame]
    keys = [*of, _keys.METACELL]
    if not set(keys) <= set(frame) or not (frame["metric"] == _keys.N_CELLS).any():
        return frame["value"]
    sizes = frame.loc[frame["metric"] == _keys.N_CELLS, [*keys, "value"]]
    mean: Any = sizes["value"].mean()
    if of:
        mean = sizes.groupby(of, dropna=False)["value"].transform("mean")
    sizes = sizes.assign(weight=sizes["value"] / mean).drop(columns="value").drop_duplicates(keys)
    weight = frame[keys].merge(sizes, on=keys, how="left")["weight"].to_numpy()
    is_weighted = frame["metric"].isin(WEIGHTED).to_numpy() & ~np.isnan(weight)
    return frame["value"] / np.where(is_weighted, weight, 1)


def _present(frame: pd.DataFrame, which: Sequence[str] | None) -> list[str]:
    there = set(frame["metric"])
    asked = list(SHOWN) if which is None else list(which)
    absent = [metric for metric in asked if metric not in there]
    if (which is not None and absent) or len(absent) == len(asked):
        raise InputValueError(
            f"Expected `which` metrics the table has, found no {absent} among {sorted(there)}."
        )
    return [metric for metric in asked if metric in there]


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
