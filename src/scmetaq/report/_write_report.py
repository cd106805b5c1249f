import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
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

from scmetaq import _keys, pl
from scmetaq._errors import InputTypeError, InputValueError, check_layer
from scmetaq._files import write_whole
from scmetaq.metrics import evaluate
from scmetaq.metrics._groups import cell_values, check_categories
from scmetaq.pl._style import svg_source

from . import _pictures, _tables
from ._metacells import all_metacells, examine
from ._pictures import lay_out
from ._tables import find_labels, read_assignments, summarize_conditions, summarize_labels

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
        Column of a condition, named in the same way, whose mixing is shown.
    layer
        Layer with the raw counts (in MuData: of each modality that has it). None: ``X``.
    embedding
        Latent of the cells, shape ``(n_cells, n_latent)``, whose UMAP is drawn unless the cells
        have one in ``obsm``. None: principal components of the counts.
    facts
        What was run: names and values, in order.
    history, quantization
        A model's ``history`` and quantization report.
    next_steps
        Python code to continue with.
    notes
        What the reader should know about this run.

    Raises
    ------
    TypeError, KeyError, ValueError, OSError
        Before any work: no cells, assignments, columns or embedding of theirs, or no file that
        can be written.
    """
    path = Path(path)
    if not isinstance(adata, AnnData | MuData):
        problem = f"Expected an AnnData or a MuData with cells, found {type(adata).__name__}."
        raise InputTypeError(problem, argument="adata")
    table = read_assignments(adata, assignments)
    assignment = table[_keys.METACELL]
    keys = [labels_key] if isinstance(labels_key, str) else list(labels_key or [])
    for key in keys:
        check_categories(cell_values(adata, key, what="labels_key"), f"labels_key={key!r}")
    shape = () if embedding is None else np.shape(embedding)
    if embedding is not None and (len(shape) != 2 or shape[0] != adata.n_obs):
        problem = f"Expected `embedding` of shape ({adata.n_obs}, n_latent), found shape {shape}."
        raise InputValueError(problem, "Pass the latent of exactly these cells.", "embedding")
    check_layer(adata, layer)
    found = [find_labels(adata, key, what="labels_key") for key in keys]
    labels, colors = [column for column, _ in found], [chosen for _, chosen in found]
    batches, batch_colors = None, None
    if batch_key is not None:
        batches, batch_colors = find_labels(adata, batch_key, what="batch_key")
        batches = batches if batches.nunique() > 1 else None  # else there is nothing to mix
    check_path(path)
    first = labels[0] if labels else None
    if metrics is None:
        metrics = evaluate(adata, assignment, first, conditions=batches, layer=layer)
    metrics, markers = examine(adata, assignment, metrics, layer)
    mixed = []
    if batches is not None:
        of = summarize_conditions(assignment, batches, first)
        ax = pl.composition(of.counts, of.groups, colors=batch_colors)
        mixed.append((of, svg_source(ax)))
    summaries = [summarize_labels(assignment, column) for column in labels]
    per_metacell = _tables.metacell_values(metrics)
    n_cells = per_metacell[_keys.N_CELLS]
    modalities, joint = _tables.modalities(metrics), _tables.of_modality(metrics, None)
    layout = lay_out(adata, assignment, layer=layer, embedding=embedding, modalities=modalities)
    embedded = _pictures.embedding(layout, *(labels[:1] + colors[:1]))
    versions = [f"{name} {version(name)}" for name in _VERSIONS]
    write_page(
        path,
        "report.html.j2",
        headline=f"{len(per_metacell):,} metacells of {assignment.notna().sum():,} cells",
        tiles=_tables.tiles(metrics),
        embedding=embedded,
        layout=layout,
        n_all=adata.n_obs,
        size=svg_source(pl.size(n_cells)),
        n_cells=n_cells,
        sizes=_tables.size_rows(joint),
        quality=_tables.quality_rows(joint),
        modalities=modalities,
        each_modality=_tables.quality_rows(metrics, modalities),
        labels=[(s, _pictures.purity(s, c)) for s, c in zip(summaries, colors, strict=True)],
        max_labels=_pictures.MAX_LABELS,
        conditions=mixed,
        metacells=all_metacells(per_metacell, markers, summaries, embedded.places)._asdict(),
        is_trained=history is not None,
        training=None if history is None else _pictures.training(history),
        quantization=_tables.quantization_rows(quantization or {}),
        next_steps=next_steps,
        facts={**(facts or {}), "Versions": ", ".join([*versions, f"Python {python_version()}"])},
        notes=notes,
        number=_tables.number,
        decimal=_tables.decimal,
    )


def check_path(path: Path) -> None:
    """Refuse a path that no page can be written to."""
    if path.suffix.lower() not in (".html", ".htm"):
        problem = f"Expected `path` to end in .html, found {path}."
        raise InputValueError(problem, f"Name e.g. {path.with_suffix('.html')}.", "path")
    if path.is_dir():
        problem = f"Expected `path` to be a file to write, found the folder {path}."
        raise IsADirectoryError(f"{problem} Name a file in it, e.g. {path / 'report.html'}.")
    at = next(parent for parent in path.absolute().parents if parent.exists())
    if not at.is_dir():
        raise NotADirectoryError(f"Expected a folder for {path}, found the file {at} there.")


def write_page(path: Path, template: str, **parts: Any) -> None:
    """Fill in a template and write the page in one step: an earlier one stays until then."""
    written = datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z").lstrip("0")
    page = _templates().get_template(template).render(written=written, **parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{secrets.token_hex(4)}-"
    write_whole(path, lambda partial: partial.write_text(page, encoding="utf-8"), mark)


@cache
def _templates() -> Environment:
    """Templates, each of which is compiled once."""
    loader = PackageLoader("scmetaq.report")
    options: Any = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=loader, autoescape=True, **options)
