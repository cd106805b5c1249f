from typing import Any

from scvi.data import AnnDataManager

from scmetaq.data._conditions import condition_columns, without_unused_categories


class Manager(AnnDataManager):
    """Registers cells, and again whenever another model was set up on them in between."""

    def register_fields(
        self, adata: Any, source_registry: dict[str, Any] | None = None, **transfer_kwargs: Any
    ) -> None:
        """Register all fields; categories of conditions that no cell has do not count."""
        given = self._get_setup_method_args()["setup_args"]
        keys = condition_columns(given["batch_key"], given["categorical_covariate_keys"])
        with without_unused_categories(adata, keys, given.get("modalities") or {}):
            super().register_fields(adata, source_registry, **transfer_kwargs)
