"""Saving and loading of models, without executing anything that is in a file."""

from inspect import signature
from pathlib import Path
from typing import Any

from anndata import settings
from scvi.data import AnnDataManager
from scvi.data._download import _download
from scvi.model._utils import parse_device_args
from scvi.model.base import BaseModelClass

from scmetaq._errors import InputValueError
from scmetaq.data._containers import check_can_be_written

from ._given import refuse_datamodule
from ._model_file import read_cells_of, read_model, refusing, write_model


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
    chosen = bool(settings.allow_write_nullable_strings)  # not by default: few read them
    with settings.override(allow_write_nullable_strings=chosen):
        prefix, of_torch = given.get("prefix") or "", given.get("save_kwargs") or {}
        write_model(self, folder, prefix, of_torch, cells)


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
    options: Any = {"return_device": "torch", "validate_single_device": True}
    to = parse_device_args(accelerator, device, **options)[-1]
    folder, prefix = Path(dir_path), prefix or ""
    file = folder / f"{prefix}model.pt"
    if backup_url is not None:
        _download(backup_url, str(folder), file.name)
    saved = read_model(file, cls.__name__, trust=trust)
    registry = saved["attr_dict"]["registry_"]
    if registry["model_name"] not in (cls.__name__, *(allowed_classes_names_list or ())):
        problem = f"Expected a model of {cls.__name__} in {folder}, found one of a different class."
        raise InputValueError(problem, "Load it with the class that it was made with.")
    with refusing(file):
        known = _made(cls, saved, to)
    if adata is False:
        return known
    own = read_cells_of(folder, prefix, saved) if adata is None else known._aligned_cells(adata)
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
    return read_model(file, "scmetaq", trust=False)["attr_dict"]["registry_"]


def view_setup_args(dir_path: str | Path, prefix: str | None = None) -> None:
    """Print how the cells of a saved model were set up, without executing anything."""
    AnnDataManager.view_setup_method_args(load_registry(dir_path, prefix))
