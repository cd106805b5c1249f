from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Self
from zipfile import BadZipFile, ZipFile

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass as _Base
else:
    _Base = object


_OF_OTHER_CONTENT = (AttributeError, IndexError, KeyError, RuntimeError, UnpicklingError)
"""What reading a file without the parts of a model raises."""


class LoadingMixin(_Base):
    """Models from disk."""

    @classmethod
    def load(cls, dir_path: str | Path, adata: Any = None, **kwargs: Any) -> Self:
        """Load a saved model, with or without cells.

        Parameters
        ----------
        dir_path
            Folder that :meth:`save` wrote.
        adata
            Cells for the model; None takes those saved with it, if any, False none. Features in
            another order are put in that of the model, in a copy. For the model of a query they
            may lack the features that the query lacked.
        **kwargs
            Further arguments of :meth:`scvi.model.base.BaseModelClass.load`.

        Raises
        ------
        TypeError, KeyError, ValueError
            The cells are not raw counts of the features and conditions of the model; or there is
            no readable model in the folder, or it is of another class.
        """
        _check_file(Path(dir_path), f"{kwargs.get('prefix') or ''}model.pt", kwargs)
        known: Any = cls._load(dir_path, False, **kwargs)
        if adata is False:
            return known
        if adata is None:
            return cls._load(dir_path, None, **kwargs)
        adata = known._checked_query(adata)
        if getattr(known, "is_query", False):  # whose cells may lack features
            known.adata = adata
            return known
        return cls._load(dir_path, adata, **kwargs)

    @classmethod
    def _load(cls, dir_path: str | Path, adata: Any, **kwargs: Any) -> Self:
        try:
            return super().load(str(dir_path), adata, **kwargs)
        except ValueError as error:
            if "different class" not in str(error):
                raise
            raise ValueError(
                f"Expected a model of {cls.__name__} in {dir_path}, found one of a different "
                "class. Load it with the class that it was made with."
            ) from error
        except _OF_OTHER_CONTENT as error:
            is_other = isinstance(error, RuntimeError) and "state_dict" not in str(error)
            if adata is not False or is_other:
                raise
            raise ValueError(
                f"The model in {dir_path} cannot be read ({str(error).splitlines()[0]}): it is no "
                "saved model, or one of another version of scmetaq. Train and save it again."
            ) from error


def _check_file(folder: Path, name: str, options: dict[str, Any]) -> None:
    """Refuse what is no whole file of a model; one that is to be downloaded may be missing."""
    file = folder / name
    if not file.exists():
        if options.get("backup_url") is None:
            raise ValueError(
                f"Expected a saved model in {folder}, found no {name} there. Name the folder that "
                "save() wrote."
            )
        return
    try:
        with ZipFile(file) as archive:
            is_whole = archive.testzip() is None
    except BadZipFile:
        is_whole = False
    if not is_whole:
        raise ValueError(
            f"{file} cannot be read: it is cut short, damaged or no saved model. Save the model "
            "again, or copy the whole folder."
        )
