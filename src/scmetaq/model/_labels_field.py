"""Labels where tools of scvi-tools look for them."""

from typing import Any

import numpy as np
import pandas as pd
from scvi.data.fields import CategoricalObsField, MuDataWrapper

from scmetaq.data._columns import read_labels


class LabelsField(CategoricalObsField):
    """The first level of labels; new cells may have other labels, or none: these are unlabelled.

    The models themselves read labels, of all levels, from their columns.
    """

    def __init__(self, registry_key: str, obs_key: str, unlabeled_category: Any):
        super().__init__(registry_key, obs_key)
        self._unlabeled_category = unlabeled_category

    def validate_field(self, adata: Any) -> None:
        """Accept cells without the column."""

    def register_field(self, adata: Any) -> dict:
        """Write the codes of the labels; unlabelled cells have the last."""
        return self._written(adata, None)

    def transfer_field(self, state_registry: dict, adata_target: Any, **kwargs: Any) -> dict:
        """Write the codes that the labels have in other cells."""
        return self._written(adata_target, list(state_registry[self.CATEGORICAL_MAPPING_KEY][:-1]))

    def _written(self, adata: Any, names: list[str] | None) -> dict:
        found = read_labels(adata, self._original_attr_key, self._unlabeled_category)
        names = found.names if names is None else names
        known = pd.Index(names).get_indexer(pd.Index(found.names, dtype=object))
        codes = np.append(known, -1)[found.codes]
        adata.obs[self.attr_key] = np.where(codes < 0, len(names), codes)
        return {
            self.CATEGORICAL_MAPPING_KEY: np.array([*names, str(self._unlabeled_category)], object),
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
            "unlabeled_category": self._unlabeled_category,
        }


MuDataLabelsField = MuDataWrapper(LabelsField)
