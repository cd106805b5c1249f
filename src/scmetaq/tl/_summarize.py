"""Cells by group: log counts, sums and means of rows, columns of ``obs``, pieces of metacells."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputTypeError, InputValueError, check_layer
from scmetaq._parallel import in_parts
from scmetaq.data._columns import is_unlabeled
from scmetaq.data._containers import Rows, Span
from scmetaq.data._plain import plain_column
from scmetaq.metrics._counts import counts_of
from scmetaq.metrics._groups import (
    as_embedding,
    cell_values,
    check_categories,
    factorize,
    factorize_metacells,
)
from scmetaq.metrics._log_counts import log_normalise

_SPAN = 32_768  # cells that are added up for one task
_BLOCK = 8_192  # those of them of which a copy is in memory at once
_N_BANDS = 4  # of groups, which are added one after the other, so that one is held twice
_MOST_EXACT = 2**23  # below which the sum of two integers is exact in single precision
SEPARATOR = ":"  # as in "mc0007:stim"


def check_anndata(data: Any, argument: str, fix: str = "Of a MuData pass one modality.") -> None:
    if not isinstance(data, AnnData):
        problem = f"Expected `{argument}` as an AnnData, found {type(data).__name__}."
        raise InputTypeError(problem, fix, argument)


def coordinates(
    adata: AnnData, name: str | None, argument: str, owner: str, *fix: str
) -> np.ndarray:
    """Return an entry of ``obsm`` (None: ``X``), which must be dense and finite."""
    check_anndata(adata, owner, *fix)
    if name is not None and name not in adata.obsm:
        problem = f"Expected `{argument}` to name an entry of `{owner}.obsm`, found no {name!r}."
        raise InputKeyError(f"{problem} Entries there: {sorted(map(str, adata.obsm.keys()))}.")
    found: Any = adata.X if name is None else adata.obsm[name]
    if name is None and sp.issparse(found):
        found = found.toarray()
    return as_embedding(found, f"{owner}.X" if name is None else f"{owner}.obsm[{name!r}]")


def log_counts(adata: AnnData, layer: str | None) -> sp.csr_matrix:
    """log1p counts per 10k in double precision; warns the caller's caller of fractions."""
    check_layer(adata, layer)
    return log_normalise(counts_of(adata, layer, stacklevel=4), np.float64)


def sum_rows(
    X: Any,
    of_cells: Any,
    n_groups: int,
    span: int = _SPAN,
    *,
    change: Callable[[Any], sp.csr_matrix] = sp.csr_matrix,
) -> sp.csr_matrix:
    """Sum the rows of each group, sparse, K x F, in single precision where sums are exact in it.

    ``of_cells`` are codes of groups, -1: in none, or weights of cells in groups, N x K, CSR of
    double precision. Rows may be changed first.
    """
    # scanpy.get.aggregate makes dense K x F arrays, too large for peaks of many metacells; blocks
    # keep the copy in double precision small, and let matrices on disk be read in turn
    spans = Rows(X).spans(span)
    ends = np.cumsum([0, *(len(span) for span in spans)])
    of_spans = [of_cells[start:end] for start, end in pairwise(ends)]
    sums: list[list[sp.csr_matrix]] = []
    parts = zip(spans, of_spans, strict=True)
    options: dict[str, Any] = {"n_parts": len(spans), "shown_as": "Adding up cells"}
    for found in in_parts(_sums_of_span, (n_groups, change), parts, **options):
        sums.append(found)
        while len(sums) > 1 and _size(sums[-2]) <= 2 * _size(sums[-1]):  # only what is of one size
            sums.append(_added(sums.pop(), sums.pop()))
    while len(sums) > 1:
        sums.append(_added(sums.pop(), sums.pop()))
    return _joined(sums.pop())


def _sums_of_span(
    shared: tuple[int, Callable[[Any], sp.csr_matrix]], part: tuple[Span, Any]
) -> list[sp.csr_matrix]:
    """Sums of some cells, in bands of groups."""
    (n_groups, change), (span, of_cells) = shared, part
    total: Any = 0
    for start, block in enumerate(span.blocks(_BLOCK)):
        of_block = of_cells[start * _BLOCK : (start + 1) * _BLOCK]
        if isinstance(of_block, np.ndarray):
            weights = _indicator(of_block, n_groups, np.ones(n_groups))
        else:
            weights = of_block.T.tocsr()
        total = _single(_single(weights @ change(block)) + total)
    band = -(-n_groups // _N_BANDS)
    return [total[start : start + band] for start in range(0, n_groups, band)]


def _single(sums: sp.csr_matrix) -> sp.csr_matrix:
    """Sums in single precision if two of them still add up exactly."""
    is_exact = sums.data.max(initial=0) < _MOST_EXACT
    if is_exact and sums.dtype != np.float32:
        is_exact = bool((sums.data == np.rint(sums.data)).all())
    return sums.astype(np.float32 if is_exact else np.float64, copy=False)


def _added(a: list[sp.csr_matrix], b: list[sp.csr_matrix]) -> list[sp.csr_matrix]:
    """Add sums band by band; the lists that were given are emptied."""
    return [_single(a.pop(0) + b.pop(0)) for _ in range(len(a))]


def _size(bands: list[sp.csr_matrix]) -> int:
    return sum(band.nnz for band in bands)


def _joined(bands: list[sp.csr_matrix]) -> sp.csr_matrix:
    """All bands as one matrix; the list is emptied."""
    n_features = bands[0].shape[1]
    lengths = np.concatenate([np.diff(band.indptr) for band in bands])
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    values = np.empty(ends[-1], np.result_type(*(band.dtype for band in bands)))
    columns, last = np.empty(ends[-1], np.int32), 0
    while bands:
        band = bands.pop(0)
        band.sort_indices()
        values[last : last + band.nnz], columns[last : last + band.nnz] = band.data, band.indices
        last += band.nnz
    return sp.csr_matrix((values, columns, ends), shape=(len(lengths), n_features))


def mean_rows(X: Any, codes: np.ndarray, n_groups: int) -> Any:
    """Mean of the rows of each group, K x F; zero of a group without cells."""
    sizes = np.bincount(codes[codes >= 0], minlength=n_groups)
    return _indicator(codes, n_groups, 1 / np.maximum(sizes, 1)) @ X


def _indicator(codes: np.ndarray, n_groups: int, weights: np.ndarray) -> sp.csr_matrix:
    """Weight of each cell in its group, K x N."""
    cells = np.flatnonzero(codes >= 0)
    of = codes[cells]
    return sp.csr_matrix((weights[of], (of, cells)), shape=(n_groups, len(codes)))


def summarize_obs(
    obs: pd.DataFrame,
    metacells: pd.Categorical,
    *,
    categorical: Collection[str] = (),
    unlabeled: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Count cells, average numbers and take majorities of categories and of ``categorical``.

    By the column, ``unlabeled`` has a value that counts as missing. Values of ``categorical`` that
    files cannot hold, or of several types, become text.
    """
    kept = metacells.codes >= 0
    codes, n = metacells.codes[kept].astype(np.int64), len(metacells.categories)
    summary: dict[str, object] = {_keys.N_CELLS: np.bincount(codes, minlength=n)}
    obs = obs.loc[kept, ~obs.columns.duplicated() & (obs.columns != _keys.N_CELLS)]
    for name in set(categorical) & set(obs):
        column = plain_column(obs[name])
        if name in (unlabeled or {}):
            column = column.where(~is_unlabeled(column, (unlabeled or {})[name]))
        obs[name] = column.astype("category") if is_numeric(column) else column
    for name, column in obs.items():
        if is_numeric(column):
            values = pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan))
            summary[str(name)] = values.groupby(codes).mean().reindex(range(n)).to_numpy()
    for name, column in obs.items():
        categories = _as_categories(column)
        if categories is not None:
            majority, fraction = _majority(categories, codes, n)
            # plain booleans stay boolean
            summary[str(name)] = majority.astype(bool) if column.dtype == bool else majority
            summary[f"{name}{_keys.FRACTION_SUFFIX}"] = fraction
    return pd.DataFrame(summary, index=pd.Index(metacells.categories, name=None))


def is_numeric(column: pd.Series) -> bool:
    types = pd.api.types
    is_other = types.is_bool_dtype(column) or types.is_complex_dtype(column)
    return types.is_numeric_dtype(column) and not is_other


def _as_categories(column: pd.Series) -> pd.Categorical | None:
    """Categorical, text or boolean values as a Categorical; None for any other kind."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return plain_column(column).array
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "boolean":
        # plain booleans as categories: h5ad has none of the nullable kind
        return pd.Categorical(column, categories=np.array([False, True]))
    return pd.Categorical(column) if kind == "string" else None


def _majority(
    values: pd.Categorical, codes: np.ndarray, n: int
) -> tuple[pd.Categorical, np.ndarray]:
    """Most frequent value per metacell (first category on a tie), and its fraction of the known."""
    known = pd.DataFrame({"metacell": codes, "value": values.codes})[values.codes >= 0]
    counts = known.groupby(["metacell", "value"]).size().reset_index(name="n")
    best = counts.sort_values("n", ascending=False, kind="stable").drop_duplicates("metacell")
    best = best.set_index("metacell").reindex(range(n))
    majority = best["value"].fillna(-1).astype(int)
    fraction = best["n"] / known.groupby("metacell").size()
    return pd.Categorical.from_codes(majority, dtype=values.dtype), fraction.to_numpy()


def find_covariates(data: Any, names: str | Sequence[str], *, what: str) -> pd.DataFrame:
    """Return the columns of cells by which to split metacells."""
    chosen = [names] if isinstance(names, str) else names
    is_list = isinstance(chosen, Sequence) and all(isinstance(name, str) for name in chosen)
    if not is_list or len(chosen) == 0:
        problem = f"Expected `{what}` to be a column of `obs` or a list of columns, found"
        raise InputTypeError(f"{problem} {names!r}.")
    repeated = {name for name in chosen if list(chosen).count(name) > 1}
    if repeated:
        problem = f"Expected each column of `{what}` once, found"
        raise InputValueError(f"{problem} {min(repeated)!r} named repeatedly.")
    columns = {name: cell_values(data, name, what=what) for name in chosen}
    for name, column in columns.items():
        check_categories(column, f"{what}={name!r}")
    return pd.DataFrame(columns, copy=False)


def combinations(covariates: pd.DataFrame) -> np.ndarray:
    """Number of the combination of categories of each cell, ``(n_cells,)``; -1: some missing."""
    return _pieces([factorize(covariates[name]) for name in covariates])[1]


def split_metacells(assignment: pd.Series, covariates: pd.DataFrame) -> pd.Series:
    """Split metacells into ``"<metacell>:<category>:..."``, in the order of all categories."""
    columns = [factorize_metacells(assignment), *(factorize(covariates[c]) for c in covariates)]
    rows, piece = _pieces(columns)
    if len(rows) == 0:
        listed = ", ".join(map(repr, covariates.columns))
        problem = f"Expected cells with a metacell and values of {listed}, found"
        raise InputValueError(f"{problem} none of {len(piece)}.")
    texts = [column.categories.astype(str).to_numpy() for column in columns]
    parts = [text[of] for text, of in zip(texts, rows.T, strict=True)]
    names = pd.Series(map(SEPARATOR.join, zip(*parts, strict=True)))
    twice = names[names.duplicated()]
    if len(twice):
        problem = f"Two pieces would have the name {twice.iloc[0]!r}, since categories contain"
        raise InputValueError(f"{problem} {SEPARATOR!r}: rename the categories.")
    pieces = pd.Categorical.from_codes(piece, names)
    return pd.Series(pieces, index=assignment.index, name=assignment.name)


def write_whole(metacells: Any, assignment: pd.Series, pieces: pd.Series, name: str) -> None:
    """Write which metacell each piece is a part of into ``obs``, of modalities too."""
    whole = factorize_metacells(assignment)
    whole = whole.rename_categories(whole.categories.astype(str))
    first = ~pieces.duplicated().to_numpy() & pieces.notna().to_numpy()
    of_piece = pd.Series(whole[first], index=pd.Index(pieces[first].astype(str)))
    for part in (metacells, *getattr(metacells, "mod", {}).values()):
        part.obs[name] = of_piece.loc[part.obs_names].array


def _pieces(columns: list[pd.Categorical]) -> tuple[np.ndarray, np.ndarray]:
    """Combinations of codes that occur, sorted, and the one of each cell; -1: a code is missing."""
    codes = np.column_stack([column.codes for column in columns])  # N x C
    known = (codes >= 0).all(axis=1)
    of_cell = np.full(len(codes), -1)
    rows, of_cell[known] = np.unique(codes[known], axis=0, return_inverse=True)
    return rows, of_cell


def in_small_pieces(code: np.ndarray, combination: np.ndarray, min_cells: int) -> np.ndarray:
    """Cells that share code and combination (-1: unknown) with too few others, sorted indices."""
    pairs = np.column_stack([combination, code])
    _, piece, sizes = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    return np.flatnonzero((sizes[piece] < min_cells) & (combination >= 0))


def join_small_pieces(
    code: np.ndarray,
    combination: np.ndarray,
    min_cells: int,
    preference: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Dissolve pieces that are too small, the smallest first, but not the last of a combination."""
    # cells go to the code they prefer (by index, higher is better) among those with cells of the
    # same combination
    code = code.copy()
    small = in_small_pieces(code, combination, min_cells)
    for this in np.unique(combination[small]):
        members = np.flatnonzero(combination == this)
        used, piece = np.unique(code[members], return_inverse=True)
        sizes, is_open = np.bincount(piece), np.ones(len(used), dtype=bool)
        while is_open.sum() > 1:
            smallest = np.where(is_open, sizes, len(code)).argmin()
            if sizes[smallest] >= min_cells:
                break
            is_open[smallest] = False
            leaving = piece == smallest
            wanted = preference(members[leaving])[:, used]
            piece[leaving] = np.where(is_open, wanted, -np.inf).argmax(1)
            sizes = np.bincount(piece, minlength=len(used))
        code[members] = used[piece]
    return code
