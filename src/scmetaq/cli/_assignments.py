"""The table with the metacell of each cell, written by any method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst")
_NO_METACELL = ("", "NA", "nan", "NaN", "<NA>", "-1", "-1.0")
"""What R, pandas and other methods write for a cell without a metacell."""


def check_assignments(path: Path) -> None:
    """Check what can be checked of ASSIGNMENTS without reading it."""
    if not path.is_file():
        raise BadInput(f"There is no file {path}: check the spelling and the folder.")
    if _ending(path) not in _SEPARATORS:
        raise BadInput(
            f"Expected ASSIGNMENTS to be a .csv file with commas or a .tsv file with tabs, found "
            f"{path}: write the table in one of these forms, with the columns barcode and metacell."
        )


def read_assignments(path: Path) -> pd.DataFrame:
    """Metacell, and margin if there is one, by barcode; missing where a cell has none.

    The index has the name of its column, for :func:`align_assignments`.
    """
    import pandas as pd

    separator = _SEPARATORS[_ending(path)]
    try:
        # barcodes stay the text that they are, also one that spells NA
        raw = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, na_values=[""])
    except (ValueError, OSError) as error:
        raise BadInput(f"{path} cannot be read as a table: {_first_line(error)}.") from error
    _check_separator(list(raw.columns), path)
    barcodes, metacells = _columns(list(raw.columns), path)
    names = raw[metacells].str.strip()
    names = names.where(~names.isin(_NO_METACELL))
    index = pd.Index(raw[barcodes], name=barcodes)
    table = pd.DataFrame({"metacell": names.to_numpy()}, index=index)
    if "margin" in raw:
        table["margin"] = pd.to_numeric(raw["margin"], errors="coerce").to_numpy()
    return table


def align_assignments(
    table: pd.DataFrame,
    data: AnnData | MuData,
    *,
    path: Path,
    source: str,
    note: Callable[[str], None],
) -> pd.DataFrame:
    """Bring a table into the order of the cells, telling what does not match.

    Parameters
    ----------
    table
        As of :func:`read_assignments`.
    data
        The cells.
    path, source
        Where the table and the cells come from.
    note
        Called with each thing that the user should know.
    """
    if table.index.name in data.obs_names:
        raise BadInput(
            f"Expected {path} to have a header, found the cell {table.index.name!r} in its first "
            f"line: write a line above it that names the columns, {_header(path)}."
        )
    if not table.index.is_unique:
        repeated = table.index[table.index.duplicated()][0]
        raise BadInput(f"Expected one row per barcode in {path}, found {repeated!r} repeatedly.")
    n_known = int(table.index.isin(data.obs_names).sum())
    if n_known == 0:
        raise BadInput(
            f"None of the barcodes of {path} (e.g. {_example(table.index)}) is among those of "
            f"{source} (e.g. {_example(data.obs_names)}): bring them to the same form."
        )
    if n_known < len(table):
        unknown = f"{len(table) - n_known:,} of {len(table):,} barcodes of {path}"
        note(f"{unknown} are not in {source} and left out.")
    if n_known < data.n_obs:
        absent = f"{data.n_obs - n_known:,} of {data.n_obs:,} cells of {source}"
        note(f"{absent} are not in {path} and count as cells without a metacell.")
    return table.reindex(data.obs_names)


def _ending(path: Path) -> str:
    """Last part of the name, without that of a compression."""
    name = path.with_suffix("") if path.suffix in _COMPRESSED else path
    return name.suffix.lower()


def _header(path: Path) -> str:
    return "barcode,metacell" if _ending(path) == ".csv" else "barcode and metacell with a tab"


def _check_separator(columns: list[str], path: Path) -> None:
    """Refuse a table whose columns are parted by something else than its name says."""
    expected = _SEPARATORS[_ending(path)]
    others = [sign for sign in _NAMES if sign != expected and sign in columns[0]]
    if len(columns) == 1 and others:
        raise BadInput(
            f"Expected {_NAMES[expected]} between the columns of {path}, found {_NAMES[others[0]]} "
            f"in {columns[0]!r}: write it as .csv with commas or as .tsv with tabs."
        )


def _columns(names: list[str], path: Path) -> tuple[str, str]:
    """Names of the columns with barcodes and metacells."""
    barcodes = "barcode" if "barcode" in names else names[0]
    others = [name for name in names if name != barcodes]
    if "metacell" in others:
        return barcodes, "metacell"
    if len(others) == 1:
        return barcodes, others[0]
    raise BadInput(
        f"Expected {path} to have a header and the columns barcode and metacell, found "
        f"{', '.join(map(repr, names))}: rename the one with metacells to 'metacell'."
    )


def _example(names: pd.Index) -> str:
    return repr(names[0]) if len(names) else "none"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
