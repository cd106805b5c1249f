from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from zipfile import is_zipfile

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass as _Base
else:
    _Base = object


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
        file = Path(dir_path) / f"{kwargs.get('prefix') or ''}model.pt"
        if file.exists() and not is_zipfile(file):
            raise ValueError(
                f"{file} cannot be read: it is cut short or no saved model. Save the model again, "
                "or copy the whole folder."
            )
        if adata is None or adata is False:
            return cls._load(dir_path, adata, **kwargs)
        known: Any = cls._load(dir_path, False, **kwargs)
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
