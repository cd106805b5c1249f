"""Saved models: files with a checksum, which are written whole and read without executing code."""

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import anndata
import mudata
import torch
from scvi.model.base._base_model import _write_adata
from scvi.model.base._constants import SAVE_KEYS

from scmetaq._errors import InputValueError, reason
from scmetaq._files import remove, write_whole

from ._plain import plain, restored

_CHECKSUM = "archive/sha256"
"""Entry of the archive with the checksum of all others."""
_CELLS = "cells_sha256"
_PARTS = (SAVE_KEYS.MODEL_STATE_DICT_KEY, SAVE_KEYS.ATTR_DICT_KEY)
_ABANDONED = 60
"""Seconds after which nobody is writing a partial file any more."""
_COPY = "Save the model again, or copy the whole folder."


def write_model(
    model: Any, folder: Path, prefix: str, options: dict[str, Any], cells: dict[str, Any] | None
) -> None:
    """Write the file of a model and, with the options in ``cells``, one of its cells.

    The names in the file are scvi-tools', whose tools can read it.
    """
    attributes = {k: v for k, v in model._get_user_attributes() if k.endswith("_")}
    state = {k: v.detach().cpu().clone() for k, v in model.module.state_dict().items()}
    content = {
        SAVE_KEYS.MODEL_STATE_DICT_KEY: state,
        SAVE_KEYS.VAR_NAMES_KEY: plain(model.get_var_names()),
        SAVE_KEYS.ATTR_DICT_KEY: plain(attributes),
    }

    def write(path: Path) -> None:
        with path.open("wb") as file:
            torch.save(content, file, **options)
        with ZipFile(path, "a") as archive:
            archive.writestr(_CHECKSUM, _checksum(archive))

    def write_both(path: Path) -> None:
        _write_adata(model.adata, path, **(cells or {}))
        content[_CELLS] = _digest(path)
        # the model first: it knows its cells, which are found under either name
        write_whole(file, write, mark)

    mark, file = f"{os.getpid()}-", folder / f"{prefix}{SAVE_KEYS.MODEL_FNAME}"
    of_cells = folder / (prefix + _name_of_cells(attributes))
    write_whole(*((file, write) if cells is None else (of_cells, write_both)), mark)
    for path in (file, of_cells):
        for left in folder.glob(f"partial-[0-9]*-{path.name}"):  # by processes that were killed
            if time.time() - left.stat().st_mtime > _ABANDONED:
                remove(left)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _name_of_cells(attributes: Mapping[str, Any]) -> str:
    is_mudata = attributes["registry_"]["setup_method_name"] == "setup_mudata"
    return SAVE_KEYS.MDATA_FNAME if is_mudata else SAVE_KEYS.ADATA_FNAME


def _checksum(archive: ZipFile) -> str:
    """SHA-256 of the names and bytes of all entries but that of the checksum."""
    found = sha256()
    for entry in archive.infolist():
        if entry.filename != _CHECKSUM:
            found.update(f"{entry.filename}\n{entry.file_size}\n".encode())
            with archive.open(entry) as file:
                while block := file.read(1 << 20):
                    found.update(block)
    return found.hexdigest()


def read_model(file: Path, kind: str, *, trust: bool) -> dict[str, Any]:
    """What :func:`write_model` wrote; with ``trust`` also what any other program pickled."""
    if not file.exists():
        problem = f"Expected a saved model in {file.parent}, found no {file.name} there."
        raise InputValueError(problem, "Name the folder that save() wrote.")
    with file.open("rb") as opened, refusing(file):
        is_ours = False
        if opened.read(2) in (b"PK", b""):
            with ZipFile(opened) as archive:
                is_ours = _CHECKSUM in archive.namelist()
                if is_ours and archive.read(_CHECKSUM).decode() != _checksum(archive):
                    raise ValueError("its checksum is another")
        opened.seek(0)
        if is_ours or trust:
            found = torch.load(opened, map_location="cpu", weights_only=is_ours)
            state, attributes = (found[name] for name in _PARTS)
            state = {k: of for k, of in state.items() if isinstance(of, torch.Tensor)}
            attributes = restored(attributes)
            attributes["registry_"]["model_name"], attributes["init_params_"]["kwargs"]
            return found | dict(zip(_PARTS, (state, attributes), strict=True))
    raise InputValueError(
        f"Expected a model of {kind} in {file.parent}, found a pickle in {file.name}, of another "
        "program, an earlier version of scmetaq or a model of a different class: reading it could "
        "run code that somebody put into it.",
        "Pass trust=True to load if you trust whoever made it.",
        "trust",
    )


def read_cells_of(folder: Path, prefix: str, saved: dict[str, Any]) -> Any:
    """Cells that were saved with a model, unless they are others now; None if there are none."""
    name = prefix + _name_of_cells(saved[SAVE_KEYS.ATTR_DICT_KEY])
    found, expected = folder / name, saved.get(_CELLS)
    if expected is not None:
        for path in (found, *folder.glob(f"partial-*-{name}")):
            if path.exists() and _digest(path) == expected:
                found = path
                break
        else:
            problem = f"{found} is not as it was saved with the model: it is damaged or missing."
            raise InputValueError(problem, "Pass the cells to load, or False for none.", "adata")
    if not found.exists():
        without = f"No cells are saved in {folder}: the model is loaded without any."
        warnings.warn(without, UserWarning, stacklevel=3)
        return None
    return (mudata.read_h5mu if name.endswith(".h5mu") else anndata.read_h5ad)(found)


@contextmanager
def refusing(file: Path) -> Iterator[None]:
    """Refuse a file that is no whole model of this version."""
    try:
        yield
    except Exception as error:
        problem = f"{file} cannot be read: it is cut short, damaged or no model of this version of"
        raise InputValueError(f"{problem} scmetaq ({reason(error)}).", _COPY) from error
