"""New cells in the form of a model's own: its features in its order, its conditions."""

import warnings
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from scmetaq._errors import InputTypeError, InputValueError, check_unique, listed

from ._advice import other_names
from ._cells import Condition, Source, called, part_of
from ._checks import check_is_anndata, check_is_mudata, check_layer, check_names, unique_names_of
from ._columns import as_name, check_complete, check_has_modality, no_column, same_names
from ._containers import Placed, in_memory, is_in_memory, loaded, readable
from ._features import check_kinds

_FEW_CELLS = 10


class Aligned(NamedTuple):
    """Cells with the features of a model."""

    data: Any  # AnnData or MuData of our own, which may share counts with the user's
    missing: dict[str, pd.Index]  # features of the model that the cells lack, by kind


def with_features(
    data: AnnData | MuData,
    sources: Mapping[str, Source],
    features: Mapping[str, pd.Index],
    use_rep: str | None = None,
) -> Any:
    """New cells, or a copy, with the features of a model in its order; other features are left out.

    A modality that they lack is there without cells; missing features are refused.
    """
    where = "mdata" if _is_mudata(sources) else "adata"
    _check_kind(data, sources, where)
    there = {k: part_of(data, s.modality) for k, s in sources.items() if _has(data, s)}
    if len(there) == len(sources) and all(
        same_names(part.var_names, features[kind]) for kind, part in there.items()
    ):
        return data
    for kind, part in there.items():
        missing = features[kind].difference(part.var_names)
        if len(missing):
            n_known, name = len(features[kind]), called(where, sources[kind].modality)
            raise InputValueError(
                f"Expected the {n_known} features that the model was trained on, found only "
                f"{n_known - len(missing)} of them: {len(missing)} are missing from var_names, "
                f"e.g. {missing[0]!r}. {other_names(part, features[kind], name)}",
                "Pass cells counted with the same features under the same names, or use "
                "load_query_data where the model has it.",
            )
    return align(data, sources, features, use_rep=use_rep, where=where).data


def align(
    data: AnnData | MuData,
    sources: Mapping[str, Source],
    features: Mapping[str, pd.Index],
    *,
    lacking: Mapping[str, pd.Index] | None = None,
    use_rep: str | None = None,
    layer: str | None = None,
    where: str = "query",
) -> Aligned:
    """Cells with the modalities and features of a model; missing ones have no counts, or no cells.

    Features that are ``lacking`` are not read, although they may be there. Counts are in ``layer``
    (of modalities: of each that has it) or ``"X"``; by default where the model's are. Of ``obsm``
    only the entry ``use_rep`` is kept.
    """
    _check_kind(data, sources, where)
    parts, missing, layers = {}, {}, layers_of_query(data, sources, layer)
    for kind, source in sources.items():
        known = features[kind]
        if not _has(data, source):
            parts[kind], missing[kind] = _without_cells(known, source.layer), known[:0]
            continue
        part, name = part_of(data, source.modality), called(where, source.modality)
        if not part.var_names.is_unique:
            check_kinds(part, kind, name, is_query=True)
        parts[kind], missing[kind] = _aligned(
            part, known, source.layer, layers[kind], (lacking or {}).get(kind, known[:0]), name
        )
    if not _is_mudata(sources):
        only = next(iter(parts.values()))
        if use_rep is not None and use_rep in data.obsm:
            only.obsm[use_rep] = loaded(data.obsm[use_rep])
        return Aligned(only, missing)
    of_name = {str(sources[kind].modality): part for kind, part in parts.items()}
    there: Any = data
    names = [name for name in there.mod if name in of_name]  # the order of cells follows theirs
    own: Any = MuData({name: of_name[name] for name in dict.fromkeys([*names, *of_name])})
    own.obs = pd.DataFrame(data.obs).loc[own.obs_names]
    if use_rep is not None and use_rep in data.obsm:
        own.obsm[use_rep] = loaded(data.obsm[use_rep])[data.obs_names.get_indexer(own.obs_names)]
    if own.n_obs == data.n_obs and not same_names(own.obs_names, data.obs_names):
        for source in sources.values():
            _load(own.mod[source.modality], source.layer)
        own = own[data.obs_names].copy()
    return Aligned(own, missing)


def layers_of_query(
    query: Any, sources: Mapping[str, Source], layer: str | None
) -> dict[str, str | None]:
    """Layer with the counts of each kind, the model's or ``layer``; None for ``X``."""
    found = {}
    for kind, source in sources.items():
        there = part_of(query, source.modality).layers if _has(query, source) else ()
        is_meant = layer is not None and (source.modality is None or layer in (*there, "X"))
        found[kind] = layer if is_meant else source.layer
        if is_meant and layer == "X" and layer not in there:
            found[kind] = None
    return found


def _is_mudata(sources: Mapping[str, Source]) -> bool:
    return any(source.modality is not None for source in sources.values())


def _has(data: Any, source: Source) -> bool:
    return source.modality is None or source.modality in data.mod


def _check_kind(data: Any, sources: Mapping[str, Source], where: str) -> None:
    """Refuse another kind of data than the model was set up with."""
    if not _is_mudata(sources):
        return check_is_anndata(data, where)
    if isinstance(data, AnnData):
        names = [str(source.modality) for source in sources.values()]
        raise InputTypeError(
            f"Expected a MuData with modalities of the model, {listed(names)}, found an AnnData.",
            f"Say which it is, e.g. {where} = mudata.MuData({{{names[0]!r}: {where}}}).",
        )
    check_is_mudata(data)
    check_unique(data.obs_names, "barcodes (obs_names)", unique_names_of(where))
    if not any(_has(data, source) for source in sources.values()):
        known = listed(source.modality for source in sources.values())
        problem = f"Expected at least one modality that the model was trained on, {known}, found"
        fix = "Give modalities the names that the model knows."
        raise InputValueError(f"{problem} {listed(data.mod)}.", fix)
    return None


def _aligned(
    adata: AnnData,
    names: pd.Index,
    layer: str | None,
    own_layer: str | None,
    lacking: pd.Index,
    where: str,
) -> tuple[AnnData, pd.Index]:
    """An AnnData of our own with the features of a model, and the features that are missing."""
    adata = readable(adata)
    check_layer(adata, own_layer, where, is_query=own_layer == layer)
    check_names(adata, where)
    counts: Any = adata.X if own_layer is None else adata.layers[own_layer]
    is_there = names.isin(adata.var_names) & ~names.isin(lacking)
    varm: dict[str, Any] = {}
    if not (is_there.all() and same_names(adata.var_names, names)):
        place = adata.var_names.get_indexer(names[is_there])
        placed = Placed(counts, place, is_there)
        counts = placed.of(placed.rows[:]) if is_in_memory(counts) else placed
    if is_there.all():
        varm = {k: np.asarray(v)[adata.var_names.get_indexer(names)] for k, v in adata.varm.items()}
    own = AnnData(
        counts if layer is None else None,
        obs=adata.obs.copy(),
        var=adata.var.reindex(names),
        varm=varm,
        layers=None if layer is None else {layer: counts},
    )
    return own, names[~is_there]


def _load(part: AnnData, layer: str | None) -> None:
    """Read counts that are not in memory: only these can be put in another order."""
    if layer is None:
        part.X = in_memory(part.X)
    else:
        part.layers[layer] = in_memory(part.layers[layer])


def _without_cells(names: pd.Index, layer: str | None) -> AnnData:
    """A modality with these features that no cell has, with the layer that counts are in."""
    counts = sp.csr_matrix((0, len(names)), dtype=np.float32)
    layers = None if layer is None else {layer: counts}
    return AnnData(counts, var=pd.DataFrame(index=names), layers=layers)


def align_conditions(data: AnnData | MuData, conditions: Iterable[Condition]) -> None:
    """Convert the columns of conditions to the types of the model; ``data`` are our own."""
    for condition in conditions:
        part = part_of(data, condition.modality)
        check_has_modality(data, condition.key, condition.modality)
        if condition.key not in part.obs:
            where, known = called("query", condition.modality), condition.categories
            is_number = isinstance(known[0], Real)
            new = int(max(known)) + 1 if is_number else "new" + "er" * ("new" in known)
            error = no_column(data, condition.key, condition.modality, whole="query")
            error.problem += " It is a condition of the reference."
            if not isinstance(known[0], bool | np.bool_):
                line = f"{where}.obs[{condition.key!r}] = {new!r}"
                error.fix = f"{error.fix} If all cells are of one new category: {line}.".lstrip()
            raise error
        check_complete(part.obs[condition.key], f"query.obs[{condition.key!r}]")
        part.obs[condition.key] = _converted(part.obs[condition.key], condition)


def new_categories(data: AnnData | MuData, conditions: Iterable[Condition]) -> dict[str, list[Any]]:
    """Categories of each key that the model does not know; those with few cells give a warning."""
    found = {}
    for key, known, modality in conditions:
        n_cells = part_of(data, modality).obs[key].astype(object).value_counts()
        new = [c for c in n_cells.index if c not in set(known)]
        few = [c for c in new if n_cells[c] < _FEW_CELLS]
        if few:
            text = f"{len(few)} new categories of {key!r} have fewer than {_FEW_CELLS} cells, e.g."
            text += f" {few[0]!r} with {n_cells[few[0]]}: their effect can hardly be estimated, and"
            warnings.warn(f"{text} little is corrected.", UserWarning, stacklevel=4)
        found[key] = sorted(new)
    return found


def _converted(column: pd.Series, condition: Condition) -> np.ndarray:
    """Values of the model's own type, known ones being recognised by how they are written."""
    known = {as_name(category): category for category in condition.categories}
    column = column.astype(object)
    if all(isinstance(c, Real) and not isinstance(c, bool | np.bool_) for c in known.values()):
        numbers = pd.to_numeric(column, errors="coerce")  # also of text that says numbers
        column = column.where(numbers.isna(), numbers)
    written = [as_name(value) for value in column]
    new = sorted(set(written) - set(known))
    if len(new) > 1 and len(new) > len(column) / 2:
        raise InputValueError(
            f"Expected {condition.key!r} of new cells to be a condition that cells share, found "
            f"{len(new)} new values for {len(column)} cells, e.g. {new[0]!r}: it has no categories."
        )
    of_text = {t: known[t] if t in known else _typed(t, condition) for t in set(written)}
    values = [of_text[text] for text in written]
    return pd.Series(values, dtype=object).infer_objects().to_numpy()


def _typed(text: str, condition: Condition) -> Any:
    """A new value, of the type of the known ones."""
    first = condition.categories[0]
    try:
        if isinstance(first, bool | np.bool_):  # anything is true to bool
            raise ValueError(text)
        return type(first)(text)
    except ValueError as error:
        problem = f"Expected {condition.key!r} of new cells to be {type(first).__name__} as the"
        raise InputValueError(f"{problem} reference's ({first}, ...), found {text!r}.") from error
