"""What is registered of cells, where tools of scvi-tools look for it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scvi import REGISTRY_KEYS
from scvi.data import fields
from scvi.data.fields import CategoricalObsField, MuDataWrapper

from scmetaq.data._cells import Source
from scmetaq.data._columns import label_keys, read_labels
from scmetaq.nn._inputs import EMBEDDING

_CONDITION_FIELDS = (
    ("batch_key", "CategoricalObsField", REGISTRY_KEYS.BATCH_KEY),
    ("categorical_covariate_keys", "CategoricalJointObsField", REGISTRY_KEYS.CAT_COVS_KEY),
)


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
        codes = found.among(names)
        adata.obs[self.attr_key] = np.where(codes < 0, len(names), codes)
        return {
            self.CATEGORICAL_MAPPING_KEY: np.array([*names, str(self._unlabeled_category)], object),
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
            "unlabeled_category": self._unlabeled_category,
        }


MuDataLabelsField = MuDataWrapper(LabelsField)


def fields_of(
    sources: Mapping[str, Source], given: Mapping[str, Any], columns: Mapping[str, str]
) -> list[Any]:
    """What scvi-tools registers: counts, conditions and the first level of labels."""
    is_mudata = any(source.modality is not None for source in sources.values())

    def field(name: str, key: str, column: Any, modality: str | None, **options: Any) -> Any:
        where = {"mod_key": modality} if is_mudata else {}
        return getattr(fields, f"MuData{name}" if is_mudata else name)(
            key, column, **options, **where
        )

    keys = {kind: kind if is_mudata else REGISTRY_KEYS.X_KEY for kind in sources}
    found = [
        field("LayerField", keys[kind], layer, name, is_count_data=False)
        for kind, (name, layer) in sources.items()
    ]
    for argument, name, key in _CONDITION_FIELDS:
        if given[argument]:
            found.append(field(name, key, given[argument], columns.get(argument)))
    if given["use_rep"] is not None:
        options = {"correct_data_format": False}  # which would write to the cells
        found.append(field("ObsmField", EMBEDDING, given["use_rep"], None, **options))
    if (key := given.get("size_factor_key")) is not None:
        found.append(field("NumericalObsField", REGISTRY_KEYS.SIZE_FACTOR_KEY, key, None))
    for level in label_keys(given["labels_key"])[:1]:
        of = REGISTRY_KEYS.LABELS_KEY, level, given["unlabeled_category"]
        where = {"mod_key": columns.get("labels_key")}
        found.append(MuDataLabelsField(*of, **where) if is_mudata else LabelsField(*of))
    return found
