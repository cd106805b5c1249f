"""What a command reads: cells, their modalities and columns, and tables of assignments."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from scmetaq._errors import InputError, InputKeyError, check_layer, check_unique, listed, reason

from ._terminal import bad_input

DEMO = "demo"

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_READERS = {
    ".h5": "scanpy.read_10x_h5({}, gex_only=False)",
    ".mtx": "scanpy.read_10x_mtx({}, gex_only=False)",
    ".loom": "anndata.io.read_loom({})",
    ".csv": "anndata.io.read_csv({})",
    ".txt": "anndata.io.read_text({})",
}
"""Code that reads files of other formats."""
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst")
_NO_METACELL = ("", "NA", "nan", "NaN", "<NA>", "-1", "-1.0")
"""What R, pandas and other methods write for a cell without a metacell."""


class Source(NamedTuple):
    """Where cells come from: files, or none for the data that come with the package."""

    name: str
    paths: list[Path]
    file_key: str | None = None

    @property
    def is_mudata(self) -> bool:
        """Whether these are cells with several modalities."""
        return any(path.suffix == ".h5mu" or (path / "mod").is_dir() for path in self.paths)

    @property
    def code(self) -> str:
        """Code that reads the cells."""
        if not self.paths:
            return "scmetaq.data.demo()"
        if len(self.paths) > 1:
            key = f", file_key={json.dumps(self.file_key)}" if self.file_key else ""
            return f"scmetaq.data.read_files({json.dumps(list(map(str, self.paths)))}{key})"
        package = "mudata" if self.is_mudata else "anndata"
        return f"{package}.read_{self.paths[0].suffix[1:]}({json.dumps(self.name)})"


def find_source(texts: Sequence[str], file_key: str | None = None) -> Source:
    """Check what can be checked of each INPUT without reading it."""
    if list(texts) == [DEMO]:
        return Source(DEMO, [])
    for text in texts:
        path = Path(text)
        if path.suffix not in (".h5ad", ".h5mu", ".zarr"):
            problem = "Expected INPUT to be .h5ad or .h5mu files, .zarr stores or, alone, the word"
            reader = _READERS.get(".mtx" if path.is_dir() else path.suffix.lower())
            fix = f" Read it and write it once in Python: {reader}.write_h5ad('cells.h5ad')."
            fix = fix.format(repr(str(path))) if reader else ""
            fix = " Unpack it first." if path.suffix.lower() in _COMPRESSED else fix
            raise InputError(f"{problem} {DEMO}, found {text!r}.{fix}")
        if not path.exists():
            raise InputError(f"There is no {text}: check the spelling and the folder.")
        if path.suffix != ".zarr" and path.is_dir():
            raise InputError(f"Expected {text} to be an {path.suffix} file, found a directory.")
    return Source(", ".join(texts), list(map(Path, texts)), file_key)


class Columns(NamedTuple):
    """Columns of the ``obs`` of the cells or, of MuData, of that of a modality."""

    keys: list[str]
    modality: str | None = None

    @property
    def names(self) -> list[str]:
        """The columns with their modality."""
        return [k if self.modality is None else f"{self.modality}:{k}" for k in self.keys]


@dataclass(frozen=True)
class Cells:
    """The cells that a command works on, an AnnData or a MuData."""

    data: Any
    kinds: dict[str, str] = field(default_factory=dict)  # modality by kind of counts
    layer: str | None = None  # layer asked for: of MuData that of each modality that has it

    @property
    def parts(self) -> dict[str, Any]:
        """AnnData of each modality in use."""
        return {name: self.data.mod[name] for name in self.kinds.values()}

    @property
    def is_mosaic(self) -> bool:
        """Whether cells lack modalities."""
        return any(part.n_obs < self.data.n_obs for part in self.parts.values())

    def code(self, source: Source) -> str:
        """Code that reads the cells."""
        is_split = bool(self.kinds) and not source.is_mudata
        return f"scmetaq.data.split_modalities({source.code})" if is_split else source.code

    def layer_of(self, name: str) -> str | None:
        """Layer with the counts of a modality; None: ``X``."""
        return self.layer if self.layer in self.parts[name].layers else None

    def described(self) -> str:
        """Return the number of cells, and of features of each modality."""
        n_cells, text = self.data.n_obs, f"{self.data.n_obs:,} cells"
        if not self.kinds:
            return f"{text} x {self.data.n_vars:,} features"
        of_parts = [
            f"{part.n_vars:,} {name} features"
            + (f" in {part.n_obs:,} of them" if part.n_obs < n_cells else "")
            for name, part in self.parts.items()
        ]
        return f"{text} ({', '.join(of_parts)})"

    def facts(self, weights: Mapping[str, float] | None = None) -> dict[str, object]:
        """Sizes, where the counts are, and weights of the kinds of counts, for the report."""
        n_cells, data = f"{self.data.n_obs:,}", self.data
        if not self.kinds:
            return {"Cells × features": f"{n_cells} × {data.n_vars:,}", "Counts": _at(self.layer)}
        rows: dict[str, object] = {"Cells": n_cells}
        for kind, name in self.kinds.items():
            size = f"{data.mod[name].n_obs:,} cells × {data.mod[name].n_vars:,} features"
            rows[f"Modality {name}"] = f"{size}, counts in {_at(self.layer_of(name))}" + (
                f"; weight {weights[kind]:.0%} of the distances between cells" if weights else ""
            )
        return rows

    def columns(self, keys: str | Sequence[str] | None, argument: str) -> Columns:
        """Find where columns are, all in one place; labels are names or whole numbers."""
        keys = [keys] if isinstance(keys, str) else keys or []
        places = [self._place(key, argument) for key in keys]
        for modality, column in places if argument == "labels_key" else ():
            part = self.data if modality is None else self.data.mod[modality]
            numbers = part.obs[column].dropna()
            if numbers.dtype.kind == "f" and (numbers % 1 != 0).any():
                problem = f"Expected categories in the column {column!r} for --labels-key, found"
                raise InputError(f"{problem} decimal numbers: bin them, or name another column.")
        if len({modality for modality, _ in places}) > 1:
            where = ", ".join(f"{c!r} in {'the MuData' if m is None else m!r}" for m, c in places)
            option = "--labels-key" if argument == "labels_key" else "--covariate-key"
            problem = f"Expected all {option} in one obs, found {where}:"
            raise InputError(f"{problem} copy them to the obs of the MuData.")
        return Columns([column for _, column in places], places[0][0] if places else None)

    def _place(self, key: str, argument: str) -> tuple[str | None, str]:
        """Modality (None: the cells as a whole) and column of a name such as ``rna:column``."""
        parts = getattr(self.data, "mod", {})
        before, colon, column = key.partition(":")
        if colon and before in parts and column in parts[before].obs:
            return before, column
        if key in self.data.obs:
            return None, key
        having = [name for name, part in parts.items() if key in part.obs]
        if len(having) == 1:
            return having[0], key
        if having:
            spelled = " or ".join(f"{name}:{key}" for name in having)
            problem = f"Column {key!r} is in several modalities: say which is meant, {spelled}."
            raise InputError(problem)
        there = [str(c) for c in self.data.obs if str(c).split(":")[0] not in parts]
        there += [f"{name}:{c}" for name, part in parts.items() for c in part.obs]
        where = "the obs of the MuData or of a modality" if parts else "obs"
        problem = f"No column {key!r} in {where}. Columns there: {listed(there)}."
        raise InputKeyError(problem, argument=argument)


def read_cells(
    source: Source, layer: str | None, note: Callable[[object], None], kind: str | None = None
) -> Cells:
    """Read cells whose modalities are known by their usual names, and check the layer.

    Features of several kinds in one AnnData become modalities; of the ``kind`` asked for, it alone.
    """
    from scmetaq import data

    cells = read_data(source, layer)
    kinds: dict[str, str] = {}
    if (parts := split(cells)) is not cells:
        chosen = kind or next(iter(parts.mod))
        if chosen not in parts.mod:
            raise InputError(f"No features are {chosen.upper()}: leave --modality out.")
        note(f"Features of several kinds are modalities of the same cells: {', '.join(parts.mod)}.")
        if kind or len(parts.mod) == 1:
            note(f"Only those of {chosen.upper()} are used.")
            parts.mod[chosen].obs = parts.obs
            parts = parts.mod[chosen]
        cells = parts
    if hasattr(cells, "mod"):
        with bad_input():
            kinds = data.find_modalities(cells)
        others = [name for name in cells.mod if name not in kinds.values()]
        if others:
            note(f"Modalities of no known kind are left out: {', '.join(others)}.")
    found = Cells(cells, kinds, layer)
    check_layer(found.parts or cells, layer)
    return found


def split(cells: Any, setup: Mapping[str, Any] | None = None) -> Any:
    """Return a MuData of features of several kinds, unless a model was set up with one modality."""
    from scmetaq import data

    try:
        return cells if "modality" in (setup or {}) else data.split_modalities(cells)
    except InputError:
        return cells


def read_data(source: Source, layer: str | None = None) -> Any:
    """Read an AnnData or a MuData; counts of large files stay on disk."""
    from scmetaq import data

    if not source.paths:
        return data.demo()
    return data.read_files(source.paths, file_key=source.file_key, layer=layer)


def as_modality(cells: Any, names: Any) -> Any:
    """Return cells of one kind as the modality whose features they have, for a model of several."""
    from mudata import MuData

    if hasattr(cells, "mod") or not isinstance(names, Mapping):
        return cells
    modality = max(names, key=lambda name: cells.var_names.isin(names[name]).sum())
    found: Any = MuData({modality: cells})
    found.obs = cells.obs.copy()
    return found


def _at(layer: str | None) -> str:
    return "X" if layer is None else f"layer {layer!r}"


def with_counts(data: Any, setup: Mapping[str, Any]) -> Any:
    """Return cells with their raw counts in ``X``, without the modalities that no cell has."""

    def counts(part: Any, layer: str | None) -> Any:
        X = part.X if layer is None else part.layers[layer]
        return type(part)(X, obs=part.obs, var=part.var, obsm=dict(part.obsm), uns=part.uns)

    if not hasattr(data, "mod"):
        return counts(data, setup["layer"])
    layers = {setup["modalities"].get(name): setup[name] for name in setup if "layer" in name}
    parts = {n: counts(part, layers.get(n)) for n, part in data.mod.items() if part.n_obs}
    found = type(data)(parts)
    found.obs = data.obs.loc[found.obs_names]
    return found


def check_accelerator(name: str) -> None:
    """Refuse a device that is not there."""
    import torch

    mps = torch.backends.mps.is_available()
    if not {"gpu": torch.cuda.is_available() or mps, "mps": mps}.get(name, True):
        raise InputError(f"PyTorch finds no {name} here: leave --accelerator out, or pass cpu.")


def check_assignments(path: Path) -> None:
    """Check what can be checked of ASSIGNMENTS without reading it."""
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the spelling and the folder.")
    if not is_table(path):
        raise InputError(
            f"Expected ASSIGNMENTS to be a .csv file with commas or a .tsv file with tabs, found "
            f"{path}: write the table in one of these forms, with the columns barcode and metacell."
        )


def read_assignments(path: Path) -> Any:
    """Metacell, and margin if there is one, by barcode; missing where a cell has none."""
    import pandas as pd

    try:
        # barcodes stay the text that they are, also one that spells NA
        options: Any = {"dtype": str, "keep_default_na": False, "na_values": [""]}
        raw = pd.read_csv(path, sep=_SEPARATORS[_ending(path)], **options)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as a table: {reason(error)}.") from error
    formula = r"^'(?=[=+\-@\t\r])"  # as we write them
    raw = raw.apply(lambda column: column.str.replace(formula, "", regex=True))
    barcodes = "barcode" if "barcode" in raw else raw.columns[0]
    rest = raw.columns.drop(barcodes)
    if "metacell" not in rest and len(rest) != 1:
        raise InputError(
            f"Expected {path} to have a header and the columns barcode and metacell, with commas "
            f"in a .csv and tabs in a .tsv file, found {listed(raw.columns)}: write it like that."
        )
    names = raw["metacell" if "metacell" in rest else rest[0]].str.strip()
    table = pd.DataFrame({"metacell": names.where(~names.isin(_NO_METACELL))})
    if "margin" in raw:
        table["margin"] = pd.to_numeric(raw["margin"], errors="coerce")
    return table.set_index(pd.Index(raw[barcodes], name=barcodes))


def align_assignments(
    table: Any, cells: Any, path: Path, source: Source, note: Callable[[object], None]
) -> Any:
    """Bring a table into the order of the cells, and note what does not match."""
    barcodes = table.index
    if barcodes.name in cells:
        tab = "barcode,metacell" if _ending(path) == ".csv" else "barcode and metacell with a tab"
        problem = f"Expected {path} to have a header, found the cell {barcodes.name!r} in its first"
        raise InputError(f"{problem} line: write a line above it that names the columns, {tab}.")
    check_unique(barcodes, f"barcodes in {path}", "keep one row of each")
    n_known = int(barcodes.isin(cells).sum())
    if n_known == 0:
        raise InputError(
            f"None of the barcodes of {path} (e.g. {listed(barcodes[:1])}) is among those of "
            f"{source.name} (e.g. {listed(cells[:1])}): bring them to the same form."
        )
    if n_known < len(table):
        unknown = f"{len(table) - n_known:,} of {len(table):,} barcodes of {path}"
        note(f"{unknown} are not in {source.name} and left out.")
    if n_known < len(cells):
        absent = f"{len(cells) - n_known:,} of {len(cells):,} cells of {source.name}"
        note(f"{absent} are not in {path} and have no metacell.")
    return table.reindex(cells)


def is_table(path: Path) -> bool:
    """Whether a path is that of a table, by its name."""
    return _ending(path) in _SEPARATORS


def _ending(path: Path) -> str:
    """Last part of the name, without that of a compression."""
    name = path.with_suffix("") if path.suffix in _COMPRESSED else path
    return name.suffix.lower()
