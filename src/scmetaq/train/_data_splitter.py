from typing import Any

from scvi.data import AnnDataManager
from scvi.dataloaders import DataSplitter


class TrainingSetSplitter(DataSplitter):
    """scvi-tools' split of cells into those to train on and those held out, of a training set.

    Parameters
    ----------
    adata_manager
        Manager of the user's cells, which is not read.
    training_set
        Manager of what training reads of the cells.
    **kwargs
        Arguments of :class:`scvi.dataloaders.DataSplitter`.
    """

    def __init__(
        self, adata_manager: AnnDataManager, *, training_set: AnnDataManager, **kwargs: Any
    ):
        super().__init__(training_set, **kwargs)

    def val_dataloader(self) -> Any:
        """Loader of the cells held out; an empty list, which Lightning passes over, of none."""
        loader = super().val_dataloader()
        return [] if loader is None else loader
