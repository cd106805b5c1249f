"""Kinds of features, such as genes and antibodies in one AnnData: what ``var`` says of them."""

import re
import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmetaq._errors import InputTypeError, InputValueError, listed
from scmetaq._keys import as_name

from ._advice import changed
from ._containers import Placed, is_in_memory, loaded, readable
from ._plain import plain_column

_COLUMNS = {"featuretypes", "featuretype", "modality", "type"}
"""Columns of ``var`` with the kind of a feature, but for capitals and underscores."""
_VALUES = {
    **dict.fromkeys(("gene", "gex", "rna", "mrna", "cdna", "transcript", "transcriptome"), "rna"),
    **dict.fromkeys(("antibody", "antibodie", "antibodyderived", "adt", "abseq"), "adt"),
    **dict.fromkeys(("protein", "prot", "surfaceprotein", "epitope"), "adt"),
    **dict.fromkeys(("peak", "atac", "chromatin", "accessibility"), "atac"),
    "chromatinaccessibility": "atac",
}
"""Kind of counts by what the column says, as 10x Genomics and others write it, without ending."""
_ENDING = "(assay|capture|count|data|expression|feature|tag|s)+$"
_MOST_KINDS = 20  # values of a column of another name that may be about kinds
_LOOKS = {
    "atac": r"chr[\w.]+[:_-]\d+[_-]\d+|[\w.]+:\d+-\d+",
    "adt": r"(?i)(ab|adt|anti|hto|prot|protein)[_:.-].+|.+[ _:.-]\(?(adt|pabo|prot|protein)\)?|"
    ".*(totalseq|hashtag).*",
}
"""Names that peaks and antibodies usually have."""


class Kinds(NamedTuple):
    """What a column of ``var`` says of features."""

    column: str
    values: pd.Series  # of each feature, missing where it says nothing

    @property
    def n_features(self) -> dict[str, int]:
        """Number of features by value."""
        return self.values.value_counts().to_dict()

    def of(self, value: str) -> str | None:
        """Kind of counts of a value: ``"rna"``, ``"adt"`` or ``"atac"``; None: another."""
        return _VALUES.get(re.sub(_ENDING, "", re.sub("[^a-z]", "", value.lower())))

    @property
    def names(self) -> list[str]:
        """Kinds of counts, and values of others."""
        return list(dict.fromkeys(self.of(value) or value for value in self.n_features))

    def where(self, where: str, kind: str) -> str:
        """Code that is true of the features of a kind."""
        values = [value for value in self.n_features if (self.of(value) or value) == kind]
        column = f'{where}.var["{self.column}"]'
        return f'{column} == "{values[0]}"' if len(values) == 1 else f"{column}.isin({values})"

    def described(self) -> str:
        """Values and numbers of features."""
        return ", ".join(f"{value!r} ({n:,})" for value, n in self.n_features.items())


def find_kinds(var: Any) -> Kinds | None:
    """Kinds of features by a column of ``var``; None if none has a kind, or is named otherwise."""
    for name, column in (var if isinstance(var, pd.DataFrame) else loaded(var)).items():
        is_named = re.sub("[^a-z]", "", str(name).lower()) in _COLUMNS
        if is_named or column[:1_000].astype(str).nunique() <= _MOST_KINDS:
            kinds = Kinds(str(name), plain_column(column).astype(object).map(as_name, "ignore"))
            known = set(map(kinds.of, kinds.n_features)) - {None}
            if len(known) > 1 or (is_named and known):
                return kinds
    return None


def warn_of_kinds(adata: AnnData, where: str) -> None:
    """Warn of features of several kinds, whose counts are no parts of one whole."""
    kinds = find_kinds(adata.var)
    if kinds is not None and len(kinds.names) > 1:
        text = f"Features of several kinds in {where} are judged as one: {kinds.described()}."
        fix = f"Make modalities of them: mdata = scmetaq.data.split_modalities({where})."
        warnings.warn(f"{text} {fix}", UserWarning, stacklevel=3)


def check_kinds(adata: AnnData, kind: str, where: str, *, is_query: bool = False) -> None:
    """Refuse features of several kinds, or of another one; warn of names of another."""
    kinds = find_kinds(adata.var)
    if kinds is None:
        if not is_query:
            _warn_of_names(adata.var_names, kind, where)
        return
    found, column = kinds.names, f'{where}.var["{kinds.column}"]'
    if len(found) > 1:
        kept = kind if kind in found else found[0]
        own = changed(where, f"{where}[:, {kinds.where(where, kept)}].copy()")
        both = "" if "[" in where else ", or all, mdata = scmetaq.data.split_modalities"
        raise InputValueError(
            f"Expected features of one kind, {kind.upper()}, in {where}, found "
            f"{kinds.described()} in {column}.",
            f"Keep one kind, {own}" + (f"{both}({where})." if both else "."),
        )
    unknown = adata.var_names[kinds.values.isna()]
    if found == [kind] and len(unknown) and not is_query:
        text = f"{len(unknown):,} features without a value in {column}, e.g. {unknown[0]!r}, are"
        fix = "Leave them out if they are something else."
        warnings.warn(f"{text} modelled as {kind.upper()}. {fix}", UserWarning, stacklevel=5)
    if found != [kind]:
        named = found[0] in _VALUES.values()
        is_modality, name = "[" in where, where.partition("[")[2].rstrip("]")
        given = f'modality="{found[0]}"'
        if is_modality:
            given = f'modalities={{"{found[0]}_layer": {name}, ...}}'
        fix = f"Say what they are with {given}" if named and not is_query else "Take others"
        raise InputValueError(
            f"Expected {kind.upper()} features in {where}, found {kinds.described()} in {column}.",
            f"{fix}, or, if they are {kind.upper()}: del {column}.",
            None if is_query else "modalities" if is_modality else "modality",
            found[0] if named and not is_query and not is_modality else None,
        )


def split_modalities(adata: AnnData) -> MuData:
    """Make a modality of each kind of features: genes, antibodies, peaks.

    Parameters
    ----------
    adata
        Cells with features of several kinds, as ``scanpy.read_10x_h5(path, gex_only=False)`` reads
        them; ``var["feature_types"]`` has ``"Gene Expression"``, ``"Antibody Capture"``,
        ``"Peaks"``. Not changed.

    Returns
    -------
    Modalities ``rna``, ``adt`` and ``atac``, those that there are, each with the layers and ``var``
    of its features; ``obs`` and ``obsm`` are those of all. Features of other kinds are left out,
    with a warning.

    Raises
    ------
    TypeError, ValueError
        ``adata`` is no AnnData, or its features are of one kind or of none that is known.
    """
    if not isinstance(adata, AnnData):
        raise InputTypeError(f"Expected an AnnData, found {type(adata).__name__}.")
    adata = readable(adata)
    kinds = find_kinds(adata.var)
    if kinds is None or len(kinds.names) < 2:
        found = "no such column" if kinds is None else kinds.described()
        problem = 'Expected features of several kinds, as var["feature_types"] says, found'
        raise InputValueError(f"{problem} {found}.", "Pass the cells as they are.")
    of_feature = kinds.values.map(kinds.of, "ignore")
    others = [name for name in kinds.names if name not in _VALUES.values()]
    if others:
        message = f"Features that are no RNA, ADT or ATAC counts are left out: {listed(others)}."
        warnings.warn(message, UserWarning, stacklevel=2)
    parts = {}
    for kind in dict.fromkeys(_VALUES.values()):
        place = np.flatnonzero(of_feature == kind)
        if len(place):
            layers = {n: _columns(m, place) for n, m in adata.layers.items() if n is not None}
            X, var = _columns(adata.X, place), adata.var.iloc[place]
            parts[kind] = AnnData(X, pd.DataFrame(index=adata.obs_names), var, layers=layers)
    found = MuData(parts)
    found.obs = adata.obs.copy()
    for key, values in adata.obsm.items():
        found.obsm[key] = values
    return found


def _columns(matrix: Any, place: np.ndarray) -> Any:
    """Columns of a matrix, read when they are needed if it is not in memory."""
    if matrix is None or is_in_memory(matrix):
        return matrix if matrix is None else getattr(matrix, "tocsr", lambda: matrix)()[:, place]
    return Placed(matrix, place, np.ones(len(place), bool))


def _warn_of_names(names: pd.Index, kind: str, where: str) -> None:
    for other, pattern in _LOOKS.items():
        found = names[names.astype(str).str.fullmatch(pattern)] if other != kind else []
        if len(found):
            n = f"{len(found):,} of {len(names):,} features in {where}"
            text = f"{n} have names as of {other.upper()}, e.g. {found[0]!r}, and are modelled as"
            fix = f'Say modality="{other}"' if len(found) == len(names) else "Leave them out"
            fix += " if they are, or make a modality of each kind."
            warnings.warn(f"{text} {kind.upper()}. {fix}", UserWarning, stacklevel=6)
