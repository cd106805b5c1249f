"""Checks of cells and counts, before any work starts: what was expected, found, how to fix it."""

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from scmetaq._errors import (
    InputKeyError,
    InputTypeError,
    InputValueError,
    check_is_int,
    check_unique,
    layers_of,
    listed,
)
from scmetaq._parallel import in_parts

from ._advice import held, only_measured_in_all, where_counts_are, without_empty
from ._cells import BLOCK, SPAN, Source, called, own_name, part_of, presence, raw_counts, values_of
from ._columns import same_names
from ._containers import Rows, Span, check_readable
from ._features import check_kinds

_FEW_SHARED = 100  # cells of several modalities: surely enough to learn how these go together
_FEWEST_SHARED = 5  # with fewer of them it cannot be learnt at all
_MOST_GLANCED_AT = 200
_FEWEST_DETECTED, _MANY_FEATURES = 50, 1_000
"""Features detected in half of the cells, of many, that are hardly enough to go by."""
MOST_COUNTS = 2**31  # of a feature in a cell; sums of all metacells are exact up to it


def check_is_mudata(mdata: Any) -> None:
    """Refuse anything but a MuData."""
    if not isinstance(mdata, MuData):
        raise InputTypeError(
            f"Expected a MuData, found {type(mdata).__name__}.",
            'Put modalities together with mudata.MuData({"rna": rna, "adt": adt}), or use '
            "setup_anndata for one of them.",
        )


def check_is_anndata(adata: Any, name: str = "adata") -> None:
    """Refuse anything but an AnnData."""
    if not isinstance(adata, AnnData):
        problem = f"Expected an AnnData, found {type(adata).__name__}."
        fix = f"Read a file first, e.g. {name} = anndata.read_h5ad(path)."
        if isinstance(adata, MuData):
            fix = f"Pass one modality, {name} = {name}[{next(iter(adata.mod), 'rna')!r}]."
        if hasattr(adata, "adatas"):  # AnnCollection
            fix = f"Use {name} = anndata.concat([anndata.experimental.read_lazy(path), ...])."
        raise InputTypeError(problem, fix)


def check_cells(
    data: AnnData | MuData,
    sources: Mapping[str, Source],
    *,
    is_query: bool = False,
    where: str | None = None,
    user: AnnData | MuData | None = None,
    layers: Mapping[str, str | None] | None = None,
) -> None:
    """Refuse data that are not raw counts of named cells, which ``where`` names in messages.

    Where the data are made of the ``user``'s, ``layers`` are those that these had the counts in.
    """
    whole = where or own_name(data)
    modalities = [source.modality for source in sources.values() if source.modality is not None]
    if modalities:
        check_unique(data.obs_names, "barcodes (obs_names)", unique_names_of(whole))
    else:
        check_is_anndata(data, whole)
    for modality in modalities:
        _check_is_up_to_date(data, modality)
    for kind, (name, layer) in sources.items():
        part = part_of(data, name)
        if is_query and name is not None and part.n_obs == 0:  # a modality that no new cell has
            continue
        argument = "layer" if name is None else f"{kind}_layer"
        own = (layers or {}).get(kind, layer)
        given = part if user is None else part_of(user, name)
        check_kinds(part, kind, called(whole, name), is_query=is_query)
        options: dict[str, Any] = {"is_query": is_query, "argument": argument}
        options["n_detected"] = 0 if is_query or kind == "atac" else _FEWEST_DETECTED
        _check_counts(part, layer, called(whole, name), given, own, **options)
    if modalities:
        _check_go_together(data, modalities, is_query=is_query)


def unique_names_of(mdata: str) -> str:
    """Code that makes the barcodes of a MuData unique."""
    return (
        f"for part in {mdata}.mod.values(): part.obs_names_make_unique(), and put the modalities "
        f"together again, {mdata} = mudata.MuData(dict({mdata}.mod)), and give it its obs"
    )


def check_names(adata: AnnData, where: str) -> None:
    """Refuse barcodes or names of features that occur more than once."""
    check_unique(adata.obs_names, "barcodes (obs_names)", f"{where}.obs_names_make_unique()")
    check_unique(adata.var_names, "feature names (var_names)", f"{where}.var_names_make_unique()")


def check_layer(
    adata: AnnData,
    layer: str | None,
    where: str,
    argument: str = "layer",
    *,
    is_query: bool = False,
) -> None:
    """Refuse a layer that does not exist, or an empty ``X``."""
    layers = layers_of(adata)
    if (layer is None and adata.X is None) or (layer is not None and layer not in layers):
        advice = where_counts_are(adata, layer, where, argument, is_query=is_query)
        if layer is None:
            raise InputValueError(f"{where}.X is empty.", advice[0], argument, advice[1])
        problem = f"No layer {layer!r} in {where}.layers. Layers there: {listed(layers)}."
        raise InputKeyError(problem, advice[0], argument, advice[1])
    check_readable(adata.X if layer is None else adata.layers[layer], held(where, layer), argument)


def _check_counts(
    adata: AnnData,
    layer: str | None,
    where: str,
    given: AnnData,
    own: str | None,
    *,
    n_detected: int,
    is_query: bool,
    argument: str,
) -> None:
    """Check counts of a layer, which ``given``, the user's, has in its ``own``."""
    if adata.n_obs == 0 or adata.n_vars == 0:
        problem = f"The data are empty: {adata.n_obs} cells x {adata.n_vars} features in {where}."
        fix = "look at the filtering before this step."
        raise InputValueError(f"{problem} Expected at least one cell and one feature;", fix)
    check_layer(adata, layer, where, argument, is_query=is_query)
    check_names(adata, where)
    matrix = held(where, own)
    problem, per_cell, per_feature, detected = _bad_values(raw_counts(adata, layer))
    if problem:
        n_finite = int(np.isfinite(per_feature).sum())
        if _NOT_FINITE in problem and 0 < n_finite < adata.n_vars:
            left = only_measured_in_all(where, own)
            of_all = f"{n_finite} of {adata.n_vars} features"
            fix, value = f"{of_all} have none, take these: {left}.", None
        else:
            fix, value = where_counts_are(given, own, where, argument, is_query=is_query)
            if fix.startswith("Pass") and _FRACTIONS in problem and "log1p" not in problem:
                rounded = f"{matrix} = scipy.sparse.csr_matrix({matrix}).rint()"
                fix += f" If they are counts that SoupX or another tool corrected: {rounded}."
        wrong = f"Expected raw counts (integers >= 0) in {matrix}, found {problem}"
        raise InputValueError(wrong, fix, argument, value)
    empty = np.flatnonzero(per_cell == 0)
    if len(empty):
        of_model = " in the features of the model," if is_query else ""
        raise InputValueError(
            f"{len(empty)} of {len(per_cell)} cells have no counts{of_model} in {matrix}, e.g. "
            f"{adata.obs_names[empty[0]]!r}. Expected at least one count per cell.",
            f"Fix: {without_empty(where, own, of_model=is_query)}.",
        )
    n_silent = int((per_feature == 0).sum())
    if n_silent and not is_query:
        text = f"{n_silent} of {adata.n_vars} features have no counts in {matrix} and are ignored."
        fix = f"To drop them: sc.pp.filter_genes({where}, min_counts=1)."
        warnings.warn(f"{text} {fix}", UserWarning, stacklevel=5)
    if not is_query and len(per_cell) > 9 and per_cell.mean() > max(999, 200 * per_cell.std()):
        text = f"All cells have about {per_cell.mean():,.0f} counts in {matrix}: if they are"
        warnings.warn(f"{text} normalised and rounded, pass raw ones.", UserWarning, stacklevel=5)
    if np.median(detected) < n_detected and adata.n_vars > _MANY_FEATURES:
        few = f"at most {np.median(detected):.0f} of the {adata.n_vars:,} features in {matrix}"
        text = f"Half of the cells have counts of {few}: metacells of so shallow cells may mix"
        fix = "Look at markers or labels within them (metrics.purity) before you rely on them."
        warnings.warn(f"{text} states. {fix}", UserWarning, stacklevel=5)


_NOT_FINITE, _NEGATIVE, _FRACTIONS = "NaN or infinite", "negative", "non-integer"


def _bad_values(counts: Rows) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """What is wrong, if anything, sums of cells and features, and features detected in cells."""
    spans = counts.spans(SPAN)
    found = in_parts(_summary, None, spans, n_parts=len(spans), shown_as="Checking counts")
    bad, values, maxima, per_cell, per_feature, detected = zip(*found, strict=True)
    n_bad, n_values, largest = sum(bad), sum(values), max(maxima)
    has_few_fractions = 2 * n_bad[2] < n_values
    guess = "They look normalised or scaled."
    if has_few_fractions:
        guess = "Most values are whole numbers."
    elif largest < 16:
        guess = "They look log-normalised (log1p)."
    negative = "." if has_few_fractions else ". They look scaled, to a mean of zero."
    details = (".", negative, f", the largest {largest:.4g}. {guess}")
    problem = ""
    for n, kind, more in zip(n_bad, (_NOT_FINITE, _NEGATIVE, _FRACTIONS), details, strict=True):
        if n and not problem:
            problem = f"{n} {kind} values of {n_values} stored{more}"
    if largest > MOST_COUNTS and not problem:
        problem = f"one of {largest:,.10g}, and {MOST_COUNTS:,} is the most that is read."
    return problem, np.concatenate(per_cell), sum(per_feature), np.concatenate(detected)


def _summary(_: None, span: Span) -> tuple[Any, ...]:
    """Numbers of bad values by kind and of all, largest, sums of cells and features, detected."""
    n_bad, n_values, largest = np.zeros(3, int), 0, 0.0
    per_cell, per_feature, detected = [], np.zeros(1), []
    for block in span.blocks(BLOCK):
        values = values_of(block)
        finite = values[np.isfinite(values)]
        n_bad += len(values) - len(finite), (finite < 0).sum(), (finite % 1 != 0).sum()
        n_values, largest = n_values + len(values), max(largest, float(finite.max(initial=0)))
        per_cell.append(np.asarray(block.sum(axis=1)).ravel())
        per_feature = per_feature + np.asarray(abs(block).sum(axis=0)).ravel()
        counting = block.count_nonzero if sp.issparse(block) else partial(np.count_nonzero, block)
        detected.append(np.asarray(counting(axis=1)).ravel())
    sums = np.concatenate(per_cell), per_feature
    return n_bad, n_values, largest, *sums, np.concatenate(detected)


def _check_is_up_to_date(mdata: MuData, name: str) -> None:
    adata = mdata.mod[name]
    row = np.asarray(mdata.obsmap[name]).ravel().astype(np.int64) - 1
    there = row >= 0
    is_valid = there.sum() == adata.n_obs and (row < adata.n_obs).all()
    if not is_valid or not same_names(mdata.obs_names[there], adata.obs_names[row[there]]):
        problem = f"The cells of mdata[{name!r}] are not those that the MuData has on record:"
        raise InputValueError(f"{problem} it was changed since.", "Fix: mdata.update().")


def _check_go_together(mdata: MuData, names: list[str], *, is_query: bool) -> None:
    present = presence(mdata, names)
    n_without = int((~present.any(1)).sum())
    if n_without:
        problem = f"{n_without} of {mdata.n_obs} cells have none of the modalities in use"
        fix = "Leave them out: mdata[...].copy() of the others."
        raise InputValueError(f"{problem} ({listed(names)}).", fix)
    if is_query or len(names) < 2:
        return
    for i, name in enumerate(names):
        shared = int((present[:, [i]] & np.delete(present, i, axis=1)).any(1).sum())
        n_cells = int(present[:, i].sum())
        if shared < min(_FEWEST_SHARED, mdata.n_obs):
            of = f"cells that have mdata[{name!r}] and another modality"
            found = f"found {shared or 'none'} among {mdata.n_obs}."
            fix = "Give the same cell the same barcode in each modality, or train on each alone."
            raise InputValueError(f"Expected at least {_FEWEST_SHARED} {of}, {found}", fix)
        if shared < min(_FEW_SHARED, n_cells / 10):
            text = f"Only {shared} of the {n_cells} cells of mdata[{name!r}] have another modality"
            fix = "If it should be more, see whether barcodes are the same in each modality."
            warnings.warn(f"{text} too. {fix}", UserWarning, stacklevel=5)


def check_paired(mdata: MuData, names: list[str]) -> None:
    """Refuse cells that lack one of the modalities."""
    n_without = int((~presence(mdata, names).all(1)).sum())
    if n_without:
        raise InputValueError(
            f"Expected cells that all have {' and '.join(f'mdata[{n!r}]' for n in names)}, found "
            f"{n_without} of {mdata.n_obs} that do not (mosaic data).",
            "Leave them out with muon.pp.intersect_obs(mdata), or use MetaQModel, which takes "
            "mosaic data.",
        )


def check_unchanged(
    data: AnnData | MuData, sources: Mapping[str, Source], features: Mapping[str, pd.Index]
) -> None:
    """Refuse cells that were changed in place after set-up, as far as some of them show."""
    for kind, (name, layer) in sources.items():
        part, where = part_of(data, name), called(own_name(data), name)
        if not same_names(part.var_names, features[kind]):
            raise InputValueError(
                f"Expected the {len(features[kind])} features that {where} had when it was set up, "
                f"found {part.n_vars}, or others: it was changed in place.",
                "Pass the cells with all features.",
            )
        counts = raw_counts(part, layer)
        # on disk, where it takes a reading, the first
        n_cells = part.n_obs if counts.is_in_memory else _MOST_GLANCED_AT
        for start in range(0, min(n_cells, part.n_obs), BLOCK):
            rows = counts[start : min(start + BLOCK, n_cells)]
            values = np.asarray(rows.data if sp.issparse(rows) else rows)
            if values.dtype.kind not in "bu" and (
                (values < 0).any() or not np.array_equal(values, np.rint(values))
            ):
                break
        else:
            continue
        raise InputValueError(
            f"Expected raw counts (integers >= 0) in {held(where, layer)}, as when it was set up, "
            "found others: it was changed, such as normalised, since.",
            "Keep the counts in a layer, and name it in the set-up: "
            'adata.layers["counts"] = adata.X.copy(), layer="counts".',
            "layer",
        )


def check_n_metacells(n_metacells: int, n_cells: int) -> None:
    """Refuse a number of metacells below 2, or not below the number of cells."""
    check_is_int("n_metacells", n_metacells)
    if n_metacells < 2 or n_metacells >= n_cells:
        raise InputValueError(
            f"Expected n_metacells between 2 and {n_cells - 1} (fewer than the {n_cells} cells), "
            f"found {n_metacells}.",
            "One metacell per 50 cells is a good start: "
            f"n_metacells={max(2, round(n_cells / 50))}.",
            "n_metacells",
        )


def check_cut(n_metacells: int, n_trained: int) -> None:
    """Refuse a number of metacells that those of a model cannot be merged to."""
    check_is_int("n_metacells", n_metacells)
    if not 2 <= n_metacells <= n_trained:
        problem = f"Expected n_metacells between 2 and the {n_trained} that the model was trained"
        fix = "Train a model with more to have more."
        raise InputValueError(f"{problem} for, found {n_metacells}.", fix, "n_metacells")
