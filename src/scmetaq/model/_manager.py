"""Registrations of cells with models, which keep no cells in memory."""

import weakref
from typing import Any

from scvi.data import AnnDataManager

from scmetaq.data._columns import condition_columns, without_unused_categories
from scmetaq.data._containers import readable


class Manager(AnnDataManager):
    """Registers cells, and again whenever another model was set up on them in between.

    scvi-tools stores managers with the classes of models and never drops them. This one does not
    own its cells: models do, and loaders.
    """

    _cells: Any = None

    @property
    def adata(self) -> Any:
        """The cells; None before they are registered, and when nobody else has them any more."""
        return None if self._cells is None else self._cells()

    @adata.setter
    def adata(self, adata: Any) -> None:
        self._cells = None if adata is None else weakref.ref(adata)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_cells": self.adata}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.adata = state["_cells"]

    def register_fields(
        self, adata: Any, source_registry: dict[str, Any] | None = None, **transfer_kwargs: Any
    ) -> None:
        """Register all fields; categories of conditions that no cell has do not count."""
        given = self._get_setup_method_args()["setup_args"]
        keys = condition_columns(given["batch_key"], given["categorical_covariate_keys"])
        self._validate_anndata_object(adata)
        own = readable(adata)  # scvi-tools knows no tables on disk
        with without_unused_categories(own, keys, given.get("modalities") or {}):
            super().register_fields(own, source_registry, **transfer_kwargs)
        if own is not adata:
            self.adata = adata
            self._assign_uuid()
            self._assign_most_recent_manager_uuid()

    def create_torch_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """As in scvi-tools; the cells live as long as the dataset."""
        dataset: Any = super().create_torch_dataset(*args, **kwargs)
        dataset.cells = self.adata
        return dataset

    def drop_with_cells(self, store: dict[str, Any]) -> None:
        """Drop this manager from a store of managers by the key of cells when these are gone."""
        weakref.finalize(self.adata, _drop, store, self.adata_uuid, self).atexit = False


def _drop(store: dict[str, Any], key: str, manager: Manager) -> None:
    if store.get(key) is manager:  # copies of cells have their key
        del store[key]
