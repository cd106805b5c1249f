"""Fragments of cells, by metacell, in files of their own."""

import gzip
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from scmetaq import _keys
from scmetaq._errors import InputTypeError, InputValueError, InputWarning, check_unique, reason
from scmetaq._files import write_whole
from scmetaq.metrics._groups import group_cells

_HELD: Final = 1 << 26  # bytes of text that wait to be written
_BLOCK: Final = 0xFF00  # bytes of text in a block of bgzip, packed at most 64 kB


def split_fragments(
    fragments: str | Path, assignment: pd.Series, folder: str | Path
) -> pd.DataFrame:
    """Write the fragments of each metacell into a file of its own, ready for ``tabix -p bed``.

    Lines stay as they are, without comments, in blocks of bgzip. One file is open at a time, and
    64 MB of text and the barcodes are in memory.

    Parameters
    ----------
    fragments
        A sorted ``fragments.tsv.gz`` as of 10x: chromosome, start, end, barcode, other columns.
    assignment
        Metacell of each cell, indexed by barcode as in the file; missing or -1: left out.
    folder
        Folder that does not exist. It appears with all files, or not at all.

    Returns
    -------
    Indexed by metacell: ``file`` in ``folder``, ``n_cells`` with a fragment, ``n_fragments``;
    ``attrs`` count ``unknown_barcodes`` and ``unknown_fragments`` that are not in ``assignment``.
    """
    path, folder = Path(fragments), Path(folder).absolute()
    if not isinstance(assignment, pd.Series):
        problem = f"Expected `assignment` as a Series by barcode, found {type(assignment).__name__}"
        raise InputTypeError(f"{problem}.", 'Pass e.g. `adata.obs["metacell"]`.', "assignment")
    check_unique(assignment.index, "barcodes in `assignment`", "remove the repeats", "assignment")
    groups = group_cells(assignment)
    table = pd.DataFrame(index=groups.names.map(_keys.as_name).rename(_keys.METACELL))
    table["file"] = [f"{name}.fragments.tsv.gz" for name in table.index]
    for name, file in table["file"].items():
        if Path(file).name != file or len(file.encode()) > 200:
            problem = f"Expected names of metacells that can be names of files, found {name!r}."
            raise InputValueError(problem, 'Rename it, without "/".', "assignment")
    if not path.is_file():
        raise FileNotFoundError(f"Expected `fragments` to be a file, found none at {path}.")
    if folder.exists():
        raise FileExistsError(f"Expected `folder` to be new, found {folder}. Choose another one.")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"Expected `folder` in a folder, found none at {folder.parent}.")
    codes, barcodes = pd.Series(groups.codes), assignment.index.astype(str)
    metacell_of = dict(zip(barcodes[codes >= 0], codes[codes >= 0], strict=True))

    def write(partial: Path) -> None:
        partial.mkdir()
        found = _split(path, metacell_of, [partial / file for file in table["file"]])
        of_cells = pd.Series(found, dtype=np.int64).reindex(list(metacell_of), fill_value=0)
        is_there, codes = of_cells > 0, list(metacell_of.values())
        if not is_there.all():
            problem = f"Expected fragments of all cells in {path}, found none of"
            problem += f" {(~is_there).sum():,}, e.g. {is_there.idxmin()!r}; the first is of"
            given = (f"{problem} {next(iter(found), '')!r}.", "Name barcodes as in the file.")
            if not is_there.any():
                raise InputValueError(*given, "assignment")
            warnings.warn(InputWarning(*given), stacklevel=4)
        table["n_cells"] = is_there.groupby(codes).sum().to_numpy()
        table["n_fragments"] = of_cells.groupby(codes).sum().to_numpy()
        table.attrs["unknown_barcodes"] = len(found) - int(is_there.sum())
        table.attrs["unknown_fragments"] = found.total() - int(of_cells.sum())

    write_whole(folder, write)
    return table


def _split(path: Path, metacell_of: dict[str, int], files: list[Path]) -> Counter[str]:
    """Write the files; return the number of fragments of each barcode."""
    found: Counter[str] = Counter()
    waiting, held = [bytearray() for _ in files], 0
    for line, barcode in _lines(path):
        found[barcode] += 1
        if (code := metacell_of.get(barcode)) is not None:
            waiting[code] += line
            held += len(line)
            if held > _HELD:
                _append(files, waiting)
                held = 0
    _append(files, waiting, end=_packed(b""))  # an empty block marks the end
    return found


def _lines(path: Path) -> Iterator[tuple[bytes, str]]:
    """Each line and its barcode; refuses what is no sorted table of fragments."""
    chrom, last, seen = b"", -1, {b""}
    try:
        with gzip.open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.startswith(b"#"):
                    continue
                text = line.rstrip(b"\r\n")
                fields, wrong = text.split(b"\t", 4), ""
                if len(fields) < 4 or not fields[1].isdigit():
                    wrong = "with chromosome, start, end and barcode"
                elif fields[0] in seen if fields[0] != chrom else int(fields[1]) < last:
                    wrong = "sorted by chromosome and start, as by `bedtools sort`"
                if wrong:
                    problem = f"Expected fragments {wrong}, found line {number} of {path}:"
                    raise InputValueError(f"{problem} {text[:80]!r}.", argument="fragments")
                chrom, last = fields[0], int(fields[1])
                seen.add(chrom)
                yield text + b"\n", fields[3].decode("utf-8", "replace")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        problem = f"Expected {path} to be whole and compressed with gzip, found: {reason(error)}."
        raise InputValueError(problem, argument="fragments") from error


def _append(files: list[Path], waiting: list[bytearray], end: bytes = b"") -> None:
    """Write what waits, and empty it."""
    for file, text in zip(files, waiting, strict=True):
        if text or end:
            with file.open("ab") as out:
                starts = range(0, len(text), _BLOCK)
                out.writelines(_packed(text[start : start + _BLOCK]) for start in starts)
                out.write(end)
            text.clear()


def _packed(text: bytes | bytearray) -> bytes:
    """Text as one block of bgzip: a gzip member that states its length."""
    deflate = zlib.compressobj(wbits=-15)
    data = deflate.compress(text) + deflate.flush()
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(data) + 25)
    return head + data + struct.pack("<II", zlib.crc32(text), len(text))
