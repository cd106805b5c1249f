from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager, AnnDataManagerValidationCheck, fields

from scmetaq._errors import InputValueError, listed
from scmetaq.data._cells import Condition, Source, own_name
from scmetaq.data._checks import check_cells, check_is_anndata, check_is_mudata, check_paired
from scmetaq.data._columns import (
    check_conditions,
    check_labels,
    condition_columns,
    find_columns,
    label_keys,
    without_unused_categories,
)
from scmetaq.data._containers import check_is_no_view, readable
from scmetaq.data._modality import (
    COLUMN_ARGUMENTS,
    LAYER_ARGUMENTS,
    ModalityName,
    check_layers_have_modalities,
    find_modalities,
    get_modality,
    warn_of_others,
)

from ._given import ON_DISK, check_setup_arguments
from ._labels_field import LabelsField, MuDataLabelsField

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass as _Base
else:
    _Base = object

_CONDITION_FIELDS = (
    ("batch_key", "CategoricalObsField", REGISTRY_KEYS.BATCH_KEY),
    ("categorical_covariate_keys", "CategoricalJointObsField", REGISTRY_KEYS.CAT_COVS_KEY),
)


class Manager(AnnDataManager):
    """Registers cells, and again whenever another model was set up on them in between."""

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


class SetupMixin(_Base):
    """Registering cells with the model class. Counts are neither copied nor changed."""

    _paired_kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of counts that every cell must have, without conditions; () for any kinds."""

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        modality: ModalityName = "rna",
        layer: str | None = None,
        batch_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        labels_key: str | list[str] | None = None,
        unlabeled_category: str = "Unknown",
        **kwargs: Any,
    ) -> None:
        """Register the raw counts of an AnnData with the model class.

        Parameters
        ----------
        adata
            Cells in rows. The counts are neither copied nor changed.
        modality
            ``"rna"``, ``"adt"`` or ``"atac"``.
        layer
            Layer with the raw counts; ``X`` by default.
        batch_key
            Column of ``obs`` with the batch of each cell, a condition: its effect is estimated and
            corrected for, so that metacells group cells of one state across batches.
        categorical_covariate_keys
            Further columns with conditions, each with embeddings of its own.
        labels_key
            Column, or columns, of ``obs`` with labels, such as a coarse and a fine level. Metacells
            report their majority; :meth:`predict_labels` predicts those of cells that have none.
        unlabeled_category
            Value of ``labels_key`` that means "no label", as a missing value does.
        **kwargs
            Passed on to :meth:`scvi.data.AnnDataManager.register_fields`.

        Raises
        ------
        TypeError, KeyError, ValueError
            The data are not raw counts of named cells, or a name is unknown; the message says
            what was expected, what was found and how to fix it.
        NotImplementedError
            The model needs several modalities: use :meth:`setup_mudata`.
        """
        given = dict(locals())
        if cls._paired_kinds:
            raise NotImplementedError(
                f"{cls.__name__} embeds RNA and ATAC counts of the same cells, found one modality. "
                'Put both in a MuData, mudata.MuData({"rna": rna, "atac": atac}), and register it '
                f"with {cls.__name__}.setup_mudata. Metacells of one modality are MetaQModel's."
            )
        get_modality(modality)
        check_is_anndata(adata)
        cls._set_up(given, {modality: Source(None, layer)}, {})

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        rna_layer: str | None = None,
        adt_layer: str | None = None,
        atac_layer: str | None = None,
        batch_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        labels_key: str | list[str] | None = None,
        unlabeled_category: str = "Unknown",
        modalities: dict[str, str] | None = None,
        protein_layer: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register the raw counts of one or several modalities of a MuData.

        Cells may lack modalities (mosaic data): they are those of the modality with the same
        barcodes. COEM takes RNA and ATAC counts of cells that have both, and no conditions.

        Parameters
        ----------
        mdata
            Cells in rows. The counts are neither copied nor changed.
        rna_layer, adt_layer, atac_layer
            Layer with the raw counts of the modality; its ``X`` by default.
        batch_key, categorical_covariate_keys, labels_key, unlabeled_category
            As of :meth:`setup_anndata`; ``"rna:batch"`` is the column ``"batch"`` of a modality.
        modalities
            Name of the modality that an argument is about, as in scvi-tools:
            ``{"rna_layer": "rna", "adt_layer": "prot"}`` takes RNA and ADT counts from these
            modalities, and no other; ``"labels_key": "rna"`` in it takes labels from the ``obs`` of
            a modality, in place of that of the MuData. By default the modalities called rna or gex,
            adt or prot, and atac or peaks.
        protein_layer
            scvi-tools' name of ``adt_layer``, also in ``modalities``.
        **kwargs
            Passed on to :meth:`scvi.data.AnnDataManager.register_fields`.

        Raises
        ------
        TypeError, KeyError, ValueError
            As :meth:`setup_anndata`; or modalities that share no cells.
        """
        given = dict(locals())
        check_is_mudata(mdata)
        protein_layer, modalities = given.pop("protein_layer"), dict(modalities or {})
        if "protein_layer" in modalities:
            modalities["adt_layer"] = modalities.pop("protein_layer")
        adt_layer = given["adt_layer"] = adt_layer if protein_layer is None else protein_layer
        modalities = given["modalities"] = modalities or None
        for argument in COLUMN_ARGUMENTS:
            of = (modalities or {}).get(argument)
            given[argument], found = find_columns(mdata, given[argument], argument, of)
            if found is not None:
                modalities = given["modalities"] = {**(modalities or {}), argument: found}
        layers = {"rna": rna_layer, "adt": adt_layer, "atac": atac_layer}
        names = find_modalities(mdata, modalities)
        if cls._paired_kinds:
            names = cls._paired_modalities(given, mdata, names)
        check_layers_have_modalities(mdata, names, layers)
        if not set(modalities or {}) & set(LAYER_ARGUMENTS) and not cls._paired_kinds:
            warn_of_others(mdata, names)
        columns = {k: v for k, v in (modalities or {}).items() if k in COLUMN_ARGUMENTS}
        given["modalities"] = {f"{kind}_layer": name for kind, name in names.items()} | columns
        cls._set_up(
            given, {kind: Source(name, layers[kind]) for kind, name in names.items()}, columns
        )

    @classmethod
    def setup_annbatch(cls, *args: Any, **kwargs: Any) -> None:
        """Not supported, and not needed: cells on disk are read as they are.

        Raises
        ------
        NotImplementedError
            Always, with what to do instead.
        """
        raise NotImplementedError(f"{cls.__name__} needs no annbatch. {ON_DISK}")

    @classmethod
    def _set_up(
        cls, given: dict[str, Any], sources: Mapping[str, Source], columns: Mapping[str, str]
    ) -> None:
        """Check and register cells: arguments by name, where counts are, and columns of ``obs``."""
        check_setup_arguments(given["kwargs"])
        user_data: Any = given.get("adata", given.get("mdata"))
        check_is_no_view(user_data, own_name(user_data))
        data = readable(user_data)
        is_transfer = given["kwargs"].get("source_registry") is not None
        check_cells(data, sources, is_query=is_transfer)
        if not is_transfer:
            key, unlabeled = given["labels_key"], given["unlabeled_category"]
            check_labels(data, key, unlabeled, columns.get("labels_key"))
            batch_key, covariates = given["batch_key"], given["categorical_covariate_keys"]
            check_conditions(data, batch_key, covariates, modalities=columns)
        manager = Manager(
            fields=_fields(sources, given, columns),
            setup_method_args=cls._get_setup_method_args(**given),
            validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
        )
        manager.register_fields(user_data, **given["kwargs"])
        cls.register_manager(manager)

    @classmethod
    def _paired_modalities(
        cls, given: Mapping[str, Any], mdata: MuData, names: Mapping[str, str]
    ) -> dict[str, str]:
        """Modalities of the kinds that every cell must have; refuse other kinds and conditions."""
        for argument, kind in LAYER_ARGUMENTS.items():
            is_given = given[argument] is not None or argument in (given["modalities"] or {})
            if kind not in cls._paired_kinds and is_given:
                problem = f"{cls.__name__} embeds RNA and ATAC counts, found"
                fix = f"Leave {argument} out, or use MetaQModel, which takes all three."
                raise InputValueError(f"{problem} a layer of {kind.upper()} counts.", fix, argument)
        batch_key, keys = given["batch_key"], given["categorical_covariate_keys"]
        if batch_key is not None or keys:
            raise InputValueError(
                f"{cls.__name__} knows no conditions, found batch_key={batch_key!r} and "
                f"categorical_covariate_keys={keys!r}.",
                "Leave them out, or use MetaQModel, whose metacells group cells of one state "
                "across batches.",
                "batch_key",
            )
        missing = [kind for kind in cls._paired_kinds if kind not in names]
        if missing:
            problem = f"{cls.__name__} needs counts of RNA and ATAC, found no {missing[0].upper()}"
            fix = 'Say which they are: modalities={"rna_layer": "rna", "atac_layer": "atac"}.'
            raise InputValueError(
                f"{problem} among the modalities {listed(mdata.mod)}.", fix, "modalities"
            )
        paired = {kind: names[kind] for kind in cls._paired_kinds}
        check_paired(mdata, list(paired.values()))
        return paired

    @property
    def _reads_mudata(self) -> bool:
        return "modalities" in self.registry["setup_args"]

    @property
    def _sources(self) -> dict[str, Source]:
        """Where each kind of counts is, by kind."""
        args = self.registry["setup_args"]
        if not self._reads_mudata:
            return {args["modality"]: Source(None, args["layer"])}
        named = args["modalities"]
        return {
            kind: Source(named[argument], args[argument])
            for argument, kind in LAYER_ARGUMENTS.items()
            if argument in named
        }

    @property
    def _features(self) -> dict[str, pd.Index]:
        """Names of all features by kind."""
        fields = self.registry["field_registries"]
        keys = {kind: kind if self._reads_mudata else REGISTRY_KEYS.X_KEY for kind in self._sources}
        return {
            kind: pd.Index(fields[key]["state_registry"]["column_names"])
            for kind, key in keys.items()
        }

    def get_var_names(self, legacy_mudata_format: bool = False) -> Any:
        """Names of the features of the model; of several modalities a dict by modality."""
        names = {of.modality: self._features[kind].to_numpy() for kind, of in self._sources.items()}
        return names.get(None, names)

    @property
    def _conditions(self) -> list[Condition]:
        """Conditions of the cells, in the order in which cells are read."""
        fields, args = self.registry["field_registries"], self.registry["setup_args"]
        where, found = args.get("modalities") or {}, []
        if REGISTRY_KEYS.BATCH_KEY in fields:
            state = fields[REGISTRY_KEYS.BATCH_KEY]["state_registry"]
            categories = list(state["categorical_mapping"])
            found.append(Condition(args["batch_key"], categories, where.get("batch_key")))
        if REGISTRY_KEYS.CAT_COVS_KEY in fields:
            mappings = fields[REGISTRY_KEYS.CAT_COVS_KEY]["state_registry"]["mappings"]
            modality = where.get("categorical_covariate_keys")
            found += [Condition(key, list(names), modality) for key, names in mappings.items()]
        return found

    @property
    def _label_keys(self) -> list[str]:
        """Columns of labels that the model was set up with."""
        return label_keys(self.registry["setup_args"].get("labels_key"))


def _fields(
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
    for level in label_keys(given["labels_key"])[:1]:
        of = REGISTRY_KEYS.LABELS_KEY, level, given["unlabeled_category"]
        where = {"mod_key": columns.get("labels_key")}
        found.append(MuDataLabelsField(*of, **where) if is_mudata else LabelsField(*of))
    return found
