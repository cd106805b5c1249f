import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jinja2 import Environment, PackageLoader, StrictUndefined
from mudata import MuData
from numpy.typing import ArrayLike

from scmetaq import _keys
from scmetaq.metrics import evaluate

from . import _pictures, _tables
from ._conditions import summarize_conditions
from ._input import check_counts_layer, check_embedding, check_labels, make_folder, read_assignments
from ._labels import LabelSummary, find_labels, summarize_labels
from ._layout import lay_out

_VERSIONS = ("scmetaq", "scvi-tools", "torch", "scanpy", "anndata")


def write_report(
    path: str | Path,
    adata: AnnData | MuData,
    assignments: str | pd.DataFrame | pd.Series | ArrayLike,
    *,
    metrics: pd.DataFrame | None = None,
    labels_key: str | Sequence[str] | None = None,
    batch_key: str | None = None,
    layer: str | None = None,
    embedding: np.ndarray | None = None,
    facts: Mapping[str, object] | None = None,
    history: Mapping[str, pd.DataFrame] | None = None,
    quantization: Mapping[str, float] | None = None,
    next_steps: str | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write a page about the metacells of any method: one html file that needs nothing else.

    Parameters
    ----------
    path
        File to write, ending in ``.html``; its folder is made if there is none.
    adata
        Cells with raw counts, of one modality or of several. Not changed.
    assignments
        Metacell of each cell, indexed by barcode: a Series, or a table with the column
        ``metacell`` and perhaps ``margin``, as from ``model.get_assignments()``; or a column of
        ``obs``, or an array in the order of the cells. Missing: a cell without a metacell.
    metrics
        Table of :func:`scmetaq.metrics.evaluate`; computed if left out.
    labels_key
        Column, or columns, of ``obs`` with labels, names or whole numbers; in MuData also of a
        modality, as in ``"rna:cell_type"``. The first colours the cells.
    batch_key
        Column of ``obs`` with the batch, or another condition, whose mixing is shown; in MuData
        also of a modality.
    layer
        Layer with the raw counts (in MuData: of each modality that has it). None: ``X``.
    embedding
        Latent of the cells, shape ``(n_cells, n_latent)``, whose UMAP is drawn unless the cells
        have one in ``obsm``. None: principal components of the counts.
    facts
        What was run: names and values, in order.
    history
        A model's ``history``.
    quantization
        A model's quantization report.
    next_steps
        Python code to go on with.
    notes
        What the reader should know about this run.

    Raises
    ------
    TypeError, KeyError, ValueError, OSError
        Before any work: no cells, assignments, columns or embedding of theirs, or no file that
        can be written.
    """
    table = read_assignments(adata, assignments)
    assignment = table[_keys.METACELL]
    keys = [labels_key] if isinstance(labels_key, str) else list(labels_key or [])
    check_labels(adata, keys)
    check_embedding(adata, embedding)
    check_counts_layer(adata, layer)
    found = [find_labels(adata, key, what="labels_key") for key in keys]
    labels, colors = [column for column, _ in found], [chosen for _, chosen in found]
    batches, batch_colors = None, None
    if batch_key is not None:
        batches, batch_colors = find_labels(adata, batch_key, what="batch_key")
    make_folder(path := Path(path))
    if batches is not None and batches.nunique() < 2:
        batches = None  # there is nothing to mix
    first = labels[0] if labels else None
    if metrics is None:
        metrics = evaluate(adata, assignment, first, conditions=batches, layer=layer)
    mixed = []
    if batches is not None:
        mixed.append(summarize_conditions(assignment, batches, first, colors=batch_colors))
    summaries = [summarize_labels(assignment, column) for column in labels]
    per_metacell = _tables.metacell_values(metrics)
    modalities, joint = _tables.modalities(metrics), _tables.of_modality(metrics, None)
    layout = lay_out(adata, assignment, layer=layer, embedding=embedding, modalities=modalities)
    chosen_by, doubtful = _tables.doubtful_metacells(
        per_metacell, _mean_margin(table), summaries[0].metacells if summaries else None
    )
    page = _render(
        headline=f"{len(per_metacell):,} metacells of {assignment.notna().sum():,} cells",
        lead=_lead(per_metacell, summaries),
        written=datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z").lstrip("0"),
        tiles=_tiles(metrics),
        embedding=_pictures.embedding(layout, adata.n_obs, *(labels[:1] + colors[:1])),
        size=_pictures.size(per_metacell[_keys.N_CELLS]),
        sizes=_tables.size_rows(joint),
        quality=_tables.quality_rows(joint),
        modalities=modalities,
        each_modality=_tables.modality_rows(metrics),
        labels=[(s, _pictures.purity(s, c)) for s, c in zip(summaries, colors, strict=True)],
        conditions=[(of, _pictures.composition(of)) for of in mixed],
        doubtful=doubtful,
        chosen_by=chosen_by,
        training=None if history is None else _pictures.training(history),
        quantization=_tables.quantization_rows(dict(quantization or {})),
        next_steps=next_steps,
        facts={**(facts or {}), "Versions": _versions()},
        notes=notes,
        number=_tables.number,
        decimal=_tables.decimal,
    )
    _write(path, page)


def _write(path: Path, page: str) -> None:
    """Write the page in one step: an earlier one stays until this one is whole."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        beside.write_text(page, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _render(**parts: Any) -> str:
    templates = Environment(
        loader=PackageLoader("scmetaq.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("report.html.j2").render(**parts)


def _mean_margin(table: pd.DataFrame) -> pd.Series | None:
    if _keys.MARGIN not in table or table[_keys.MARGIN].isna().all():
        return None
    return table[_keys.MARGIN].groupby(table[_keys.METACELL]).mean()


def _lead(per_metacell: pd.DataFrame, summaries: Sequence[LabelSummary]) -> str:
    """Tell the result in a sentence or two."""
    sizes = per_metacell[_keys.N_CELLS]
    text = (
        f"A metacell stands for {_tables.number(sizes.median())} cells in the median, for "
        f"{sizes.min():,.0f} at least and {sizes.max():,.0f} at most."
    )
    if not summaries:
        return text
    first = summaries[0]
    text += f" On average {first.purity:.0%} of its cells share one {first.key}."
    if first.lost:
        names = ", ".join(first.lost[:5]) + (", …" if len(first.lost) > 5 else "")
        text += f" Labels without a metacell of their own: {names}."
    else:
        text += f" Each of the {len(first.labels)} labels has a metacell of its own."
    return text


def _tiles(metrics: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Numbers to see at once: value, name, which direction is better."""
    shown = {
        "n_metacells": "metacells",
        "size_median": "cells per metacell, median",
        "compactness": "compactness",
        "separation": "separation",
        "purity": "purity",
        "balanced_accuracy": "balanced accuracy",
        "mixing": "mixing",
    }
    hints = {"higher": "higher is better", "lower": "lower is better"}
    tiles = []
    for metric, words in shown.items():
        for name in (None, *_tables.modalities(metrics)):
            rows = _tables.of_modality(metrics, name)
            rows = rows[(rows["metric"] == metric) & rows["value"].notna()]
            if len(rows):
                value, better = rows["value"].mean(), rows["better"].iloc[0]
                text = (_tables.decimal if better else _tables.number)(value)
                of = "" if name is None else f", {name}"
                tiles.append((text, words + of, hints.get(better, "")))
    return tiles


def _versions() -> str:
    versions = [f"{name} {version(name)}" for name in _VERSIONS]
    return ", ".join([*versions, f"Python {python_version()}"])
