"""Saved models: checksummed, written whole, and read without executing anything in them."""

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest, sha256
from inspect import signature
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import anndata
import mudata
import torch
from scvi.data import AnnDataManager
from scvi.data._download import _download
from scvi.model.base import BaseModelClass
from scvi.model.base._base_model import _write_adata
from scvi.model.base._constants import SAVE_KEYS

from scmetaq._errors import InputValueError, reason
from scmetaq._files import remove, write_whole
from scmetaq.data._containers import check_can_be_written

from ._given import refuse_datamodule
from ._plain import plain, restored
from ._training import device_of

_CHECKSUM = "archive/sha256"
"""Entry of the archive with the checksum of all others."""
_CELLS = "cells_sha256"
_PARTS = (SAVE_KEYS.MODEL_STATE_DICT_KEY, SAVE_KEYS.ATTR_DICT_KEY)
_ABANDONED = 60
"""Seconds after which nobody is writing a partial file any more."""
_COPY = "Save the model again, or copy the whole folder."


def save(self: Any, dir_path: str | Path, *args: Any, **kwargs: Any) -> None:
    """Save the model, and nothing of the cells but the names of features and categories.

    An earlier model in the folder stays whole until the new one is. Arguments are those of
    :meth:`scvi.model.base.BaseModelClass.save`, such as ``overwrite``, or ``save_anndata``,
    which cells that are read lazily cannot have.
    """
    given = signature(BaseModelClass.save).bind(self, dir_path, *args, **kwargs).arguments
    folder, cells = Path(dir_path), None
    if given.get("save_anndata") and self.adata is not None:
        check_can_be_written(self.adata)
        cells = given.get("anndata_write_kwargs", {})
    if folder.exists() and not given.get("overwrite"):
        problem = f"{folder} already exists:"
        raise InputValueError(problem, "pass overwrite=True, or another folder.", "dir_path")
    folder.mkdir(parents=True, exist_ok=True)
    chosen = bool(anndata.settings.allow_write_nullable_strings)  # not by default: few read them
    with anndata.settings.override(allow_write_nullable_strings=chosen):
        prefix, of_torch = given.get("prefix") or "", given.get("save_kwargs") or {}
        _write(self, folder, prefix, of_torch, cells)


def load(
    cls: Any,
    dir_path: str | Path,
    adata: Any = None,
    accelerator: str = "auto",
    device: int | str = "auto",
    prefix: str | None = None,
    backup_url: str | None = None,
    datamodule: Any = None,
    allowed_classes_names_list: list[str] | None = None,
    *,
    trust: bool = False,
) -> Any:
    """Load a saved model, with or without cells. Nothing that is in the folder is executed.

    Parameters
    ----------
    dir_path
        Folder that :meth:`save` wrote.
    adata
        Cells for the model; None takes those saved with it, if any, False none. Features in
        another order are put in that of the model, in a copy. For the model of a query they
        may lack the features that the query lacked.
    accelerator, device, prefix, backup_url, datamodule, allowed_classes_names_list
        As in :meth:`scvi.model.base.BaseModelClass.load`.
    trust
        Load a pickle too, such as a model of an earlier version. It can run any code that somebody
        put into it.

    Raises
    ------
    TypeError, KeyError, ValueError
        The cells are not raw counts of the features and conditions of the model; or there is
        no readable model in the folder, or it is of another class.
    """
    if datamodule is not None:
        refuse_datamodule()
    to = device_of(accelerator, device, validate_single_device=True)
    folder, prefix = Path(dir_path), prefix or ""
    file = folder / f"{prefix}model.pt"
    if backup_url is not None:
        _download(backup_url, str(folder), file.name)
    saved = _read(file, cls.__name__, trust=trust)
    registry = saved["attr_dict"]["registry_"]
    if registry["model_name"] not in (cls.__name__, *(allowed_classes_names_list or ())):
        problem = f"Expected a model of {cls.__name__} in {folder}, found one of a different class."
        raise InputValueError(problem, "Load it with the class that it was made with.")
    with _refusing(file):
        known = _made(cls, saved, to)
    if adata is False:
        return known
    own = _read_cells(folder, prefix, saved) if adata is None else known._aligned_cells(adata)
    if own is None:
        return known
    if known.is_query and adata is not None:  # whose cells may lack features
        known.adata = own
        return known
    set_up = cls.setup_mudata if known._reads_mudata else cls.setup_anndata
    set_up(own, source_registry=registry, **registry["setup_args"])
    return _made(cls, saved, to, own)


def _made(cls: Any, saved: dict[str, Any], device: Any, adata: Any = None) -> Any:
    """Model that was saved, with cells that are set up for it or without."""
    attributes = dict(saved["attr_dict"])
    registry, params = attributes.pop("registry_"), attributes.pop("init_params_")
    options = params["non_kwargs"] | {
        k: v for of in params["kwargs"].values() for k, v in of.items()
    }
    model = cls(adata, registry=registry, **options)
    for name, value in attributes.items():
        setattr(model, name, value)
    model.module.on_load(model, pyro_param_store=None)
    model.module.load_state_dict(saved["model_state_dict"])
    model.to_device(device)
    model.module.eval()
    if adata is not None:
        model._validate_anndata(adata)
    return model


def load_registry(dir_path: str | Path, prefix: str | None = None) -> dict[str, Any]:
    """Return the registry of a saved model, without executing anything."""
    file = Path(dir_path) / f"{prefix or ''}model.pt"
    return _read(file, "scmetaq", trust=False)["attr_dict"]["registry_"]


def view_setup_args(dir_path: str | Path, prefix: str | None = None) -> None:
    """Print how the cells of a saved model were set up, without executing anything."""
    AnnDataManager.view_setup_method_args(load_registry(dir_path, prefix))


def _write(
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
        try:
            _write_adata(model.adata, path, **(cells or {}))
        except OSError:
            raise
        except Exception as error:  # of anndata, of a column or an entry
            notes = getattr(error, "__notes__", [])
            problem = ". ".join(["The cells cannot be written", reason(error), *notes])
            fix = "Remove it, or save without them, and load with them: load(dir_path, adata)."
            raise InputValueError(f"{problem}.", fix, "save_anndata") from error
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


def _read(file: Path, kind: str, *, trust: bool) -> dict[str, Any]:
    """What :func:`save` wrote; with ``trust`` also what any other program pickled."""
    if not file.exists():
        problem = f"Expected a saved model in {file.parent}, found no {file.name} there."
        raise InputValueError(problem, "Name the folder that save() wrote.")
    with file.open("rb") as opened, _refusing(file):
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


def _read_cells(folder: Path, prefix: str, saved: dict[str, Any]) -> Any:
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
def _refusing(file: Path) -> Iterator[None]:
    """Refuse a file that is no whole model of this version."""
    try:
        yield
    except Exception as error:
        problem = f"{file} cannot be read: it is cut short, damaged or no model of this version of"
        raise InputValueError(f"{problem} scmetaq ({reason(error)}).", _COPY) from error
