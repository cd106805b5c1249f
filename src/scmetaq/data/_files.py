"""Files of cells: read into memory, or left on disk where they are large, and joined."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import zarr
from anndata import AnnData
from anndata.io import read_elem, sparse_dataset
from mudata import MuData

from scmetaq._errors import InputKeyError, InputValueError, check_unique, listed, reason

from ._columns import same_names
from ._containers import Placed, Rows, Stacked
from ._damage import check_file

MOST_IN_MEMORY = 200_000_000  # bytes on disk up to which files, all together, are read into memory


def read_files(
    paths: str | Path | Sequence[str | Path],
    *,
    file_key: str | None = None,
    layer: str | None = None,
) -> AnnData | MuData:
    """Read cells of one file or of several; counts of large files stay on disk.

    Of several files features and layers are those that all of them have, without ``obsm``; cells
    follow in the order of the files. Columns of ``obs`` are those that any file has, with missing
    values for the cells of others (as of ``anndata.concat(join="outer")``). Where files share
    barcodes, ``-<file>`` is appended to those of all of their cells. Files of together at most
    200 MB are read into memory.

    Parameters
    ----------
    paths
        Files ``.h5ad`` or stores ``.zarr``; or files ``.h5mu`` or ``.zarr`` with modalities.
    file_key
        Column of ``obs`` to add, with the name of each cell's file without its ending.
    layer
        Layer that each file must have, or of modalities none or all of that name.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    repeated = [
        str(file) for file in files if [f.resolve() for f in files].count(file.resolve()) > 1
    ]
    if repeated:
        problem = f"Expected different files, found {repeated[0]} more than once."
        raise InputValueError(problem, "Name each file once.")
    kinds = [_has_modalities(file) for file in files]
    if len(set(kinds)) > 1:
        one, several = files[kinds.index(False)], files[kinds.index(True)]
        problem = "Expected files of one kind, found cells of one modality in"
        problem += f" {one} and of several in {several}."
        raise InputValueError(problem, "Name files of one kind only.")
    is_small = sum(map(_size, files)) <= MOST_IN_MEMORY
    cells, names = [_read(file, is_small) for file in files], _distinct(files)
    found, places = cells[0], np.zeros(cells[0].n_obs, int)
    if len(files) > 1:
        found, places = _joined(cells, names, layer)
    if file_key is not None:
        if file_key in found.obs:
            problem = f"Expected a new column for the files, found {file_key!r} in obs."
            raise InputValueError(problem, "Choose another name.", "file_key")
        found.obs[file_key] = pd.Categorical.from_codes(places, names)
    return found


def _has_modalities(file: Path) -> bool:
    return file.suffix == ".h5mu" or (file / "mod").is_dir()


def _size(file: Path) -> int:
    files = file.rglob("*") if file.is_dir() else [file]
    return sum(of.stat().st_size for of in files if of.is_file())


def _distinct(files: Sequence[Path]) -> list[str]:
    """Names of files without their ending, with as many folders as make them distinct."""
    parts = [file.resolve().with_suffix("").parts for file in files]
    for n in range(1, max(map(len, parts))):
        names = ["/".join(of[-n:]) for of in parts]
        if len(set(names)) == len(names):
            return names
    return [str(file) for file in files]


def _read(file: Path, is_small: bool) -> Any:
    package, kind = (mudata, "MuData") if _has_modalities(file) else (anndata, "AnnData")
    if not file.exists():
        raise InputValueError(f"There is no {file}.", "Check the spelling and the folder.")
    read = getattr(package, f"read_{file.suffix[1:]}", None)
    if read is None:
        problem = f"Expected .h5ad or .h5mu files or .zarr stores, found {str(file)!r}."
        raise InputValueError(
            problem, "Read it with scanpy or anndata, and pass what these return."
        )
    try:
        check_file(file)
        found = None if is_small else _opened(file)
        found = read(file) if found is None else found
    except MemoryError:
        raise
    except Exception as error:
        problem = f"{file} cannot be read as {kind} ({reason(error)}):"
        is_closed = isinstance(error, PermissionError)
        why = "it is not yours to read." if is_closed else _why_not_read(file)
        raise InputValueError(problem, why) from error
    if kind == "MuData" and not found.mod:
        problem = f"{file} cannot be read as MuData: it holds no modalities."
        raise InputValueError(problem, "If it is AnnData, give it the ending .h5ad.")
    return found


def _why_not_read(file: Path) -> str:
    """The likely cause, by what is in a file that cannot be read, and what to do."""
    try:
        group: Any = zarr.open_group(file, mode="r") if file.is_dir() else h5py.File(file, "r")
        names, has_barcodes = set(group), any(f"{name}/barcodes" in group for name in group)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not whole
        return "it may be truncated or of another format, so copy or download it again."
    if "mod" in names and file.suffix == ".h5ad":
        return "it holds modalities, so give it the ending .h5mu."
    if {"matrix", "row_attrs"} <= names:
        return "it is a loom file: anndata.io.read_loom(path).write_h5ad(...)."
    if "matrix" in names or has_barcodes:
        return "it is of 10x Genomics: scanpy.read_10x_h5(path, gex_only=False).write_h5ad(...)."
    if not names & {"X", "obs", "mod"}:
        return "it is whole, but of another format: it holds no cells."
    writer = "anndata" if "mod" not in names else "mudata"
    return (
        "it may be damaged, or written by an old version or another program, such as R: read it "
        f"with that or with {writer} in Python, and write it again with a recent {writer}."
    )


def _opened(file: Path) -> Any:
    """Cells with counts on disk; None if the format, an old one, has to be read as a whole."""
    root: Any = zarr.open_group(file, mode="r") if file.is_dir() else h5py.File(file, "r")
    if not _has_modalities(file):
        return _of_group(root)
    if "mod" not in root or root.attrs.get("axis", 0) != 0:
        return None
    parts = {n: _of_group(root["mod"][n]) for n in root["mod"].attrs.get("mod-order", root["mod"])}
    if any(part is None for part in parts.values()):
        return None
    found: Any = MuData(parts)
    obs: Any = read_elem(root["obs"])
    if not same_names(found.obs_names, obs.index):
        return None
    found.obs = obs
    for key in set(root["obsm"]) - set(parts):
        found.obsm[key] = read_elem(root["obsm"][key])
    return found


def _of_group(group: Any) -> AnnData | None:
    if "encoding-type" not in group["obs"].attrs:
        return None
    on_disk: Any = {of: {k: _on_disk(group[of][k]) for k in group[of]} for of in ("layers", "obsm")}
    read: Any = {of: read_elem(group[of]) for of in ("obs", "var", "varm", "uns")}
    return AnnData(_on_disk(group["X"]) if "X" in group else None, **read, **on_disk)


def _on_disk(stored: Any) -> Any:
    """A matrix that rows can be read of; one that is stored by features is read as a whole."""
    kind = stored.attrs.get("encoding-type")
    if kind == "csr_matrix":
        return sparse_dataset(stored)
    found: Any = stored if kind == "array" else read_elem(stored)
    return found.tocsr() if sp.issparse(found) else found


def _joined(cells: list[Any], names: list[str], layer: str | None) -> tuple[Any, np.ndarray]:
    """Cells of all files, and the file of each."""
    for of, name in zip(cells, names, strict=True):
        check_unique(of.obs_names, f"barcodes in {name}", "give each cell a name of its own")
    every = np.concatenate([of.obs_names for of in cells])
    repeated = every[pd.Index(every).duplicated()]
    is_renamed = [of.obs_names.isin(repeated).any() for of in cells]
    ends = [f"-{name}" if renamed else "" for name, renamed in zip(names, is_renamed, strict=True)]
    if len(repeated):
        files = ", ".join(name for name, end in zip(names, ends, strict=True) if end)
        _warn(f"Files share barcodes, e.g. {repeated[0]!r}: -<file> is appended in {files}.")
    file = pd.Series(np.repeat(np.arange(len(cells)), [of.n_obs for of in cells]))
    file.index = np.concatenate([of.obs_names + end for of, end in zip(cells, ends, strict=True)])
    sources = list(zip(cells, names, ends, strict=True))
    if not isinstance(cells[0], MuData):
        return _joined_part(sources, layer), file.to_numpy()
    parts = {}
    for modality in dict.fromkeys(name for of in cells for name in of.mod):
        having = [(of.mod[modality], *rest) for of, *rest in sources if modality in of.mod]
        parts[modality] = _joined_part(having, layer, f" of {modality!r}")
    found, obs = MuData(parts), _joined_obs(sources)
    found.obs = obs.loc[found.obs_names]
    return found, file[found.obs_names].to_numpy()


def _joined_part(sources: list[Any], layer: str | None, of: str = "") -> AnnData:
    """One AnnData of the features and layers that all have."""
    parts, names = [part for part, *_ in sources], [name for _, name, _ in sources]
    for part, name in zip(parts, names, strict=True):
        fix = "give each feature a name of its own"
        check_unique(part.var_names, f"feature names{of} in {name}", fix)
    var = parts[0].var_names
    for part, name in zip(parts, names, strict=True):
        shared = var[var.isin(part.var_names)]
        if not len(shared):
            sides = f"{listed(var[:3])} in {names[0]}, {listed(part.var_names[:3])} in {name}"
            problem = f"Expected features{of} that all files share, found none: e.g. {sides}."
            raise InputValueError(problem, "Use the same names of features in all files.")
        var = shared
    most = max(part.n_vars for part in parts)
    if len(var) < most:
        _warn(f"{len(var):,} of up to {most:,} features{of} are in all files; others are left out.")
    lacking = [name for part, name in zip(parts, names, strict=True) if layer not in part.layers]
    if layer is not None and lacking and (not of or len(lacking) < len(parts)):
        problem = f"Expected the layer {layer!r}{of} in all files, found none in"
        raise InputKeyError(f"{problem} {', '.join(lacking)}.", argument="layer")
    layers = []
    for layer_name in dict.fromkeys(n for part in parts for n in part.layers if n):
        without = [n for part, n in zip(parts, names, strict=True) if layer_name not in part.layers]
        if without:
            _warn(f"The layer {layer_name!r}{of} is left out: it is not in {listed(without)}.")
        else:
            layers.append(layer_name)
    counts = {n: _stacked([part.layers[n] for part in parts], parts, var) for n in layers}
    has_X = all(part.X is not None for part in parts)
    X = _stacked([part.X for part in parts], parts, var) if has_X else None
    return AnnData(X, _joined_obs(sources, of), parts[0].var.loc[var], layers=counts)


def _stacked(matrices: list[Any], parts: list[AnnData], var: pd.Index) -> Any:
    columns = [part.var_names.get_indexer(var) for part in parts]
    is_there = np.ones(len(var), bool)
    pieces = [Placed(m, c, is_there) for m, c in zip(matrices, columns, strict=True)]
    found = Stacked(pieces)
    return found[:] if all(Rows(matrix).is_in_memory for matrix in matrices) else found


def _joined_obs(sources: list[Any], of: str = "") -> pd.DataFrame:
    """Columns that any has, with the categories of all; missing where a file lacks them."""
    tables = [part.obs.set_axis(part.obs_names + end) for part, _, end in sources]
    every = list(dict.fromkeys(key for table in tables for key in table))
    partial = [key for key in every if not all(key in table for table in tables)]
    if partial:
        _warn(f"Columns of obs{of} that not all files have get missing values: {listed(partial)}.")
    # as anndata.concat(join="outer") does, but for booleans, which with gaps cannot be written
    gaps = [key for key in partial if any(t[key].dtype == bool for t in tables if key in t)]
    found = pd.concat([t.astype({k: "boolean" for k in gaps if k in t}) for t in tables])[every]
    for key in every:
        columns = [table[key] for table in tables if key in table]
        if all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
            categories = dict.fromkeys(c for column in columns for c in column.cat.categories)
            found[key] = pd.Categorical(found[key], list(categories))
    return found


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)
