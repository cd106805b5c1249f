from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManagerValidationCheck

from scmetaq._errors import InputValueError
from scmetaq.data._cells import Condition, Source, own_name
from scmetaq.data._checks import check_cells, check_is_anndata, check_is_mudata
from scmetaq.data._columns import (
    check_conditions,
    check_labels,
    find_columns,
    label_keys,
    size_factors,
)
from scmetaq.data._containers import check_is_no_view, readable
from scmetaq.data._grouping import Features, check_embedding, find_features, may_be_read
from scmetaq.data._modality import (
    COLUMN_ARGUMENTS,
    LAYER_ARGUMENTS,
    ModalityName,
    check_layers_have_modalities,
    find_modalities,
    get_modality,
    warn_of_others,
)
from scmetaq.nn._inputs import EMBEDDING

from ._fields import fields_of
from ._given import ON_DISK, checked_setup_arguments
from ._manager import Manager

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass as _Base
else:
    _Base = object


class SetupMixin(_Base):
    """Registering cells with the model class. Counts are neither copied nor changed."""

    _takes_embeddings: ClassVar[bool] = False
    """Whether ``use_rep`` can be given."""
    _paired_kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of counts that every cell must have, without conditions; () for any kinds."""
    _paired_modalities: ClassVar[Callable[..., dict[str, str]]]
    """Of these kinds; refuses others, and conditions."""

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
        use_rep: str | None = None,
        features: Features = None,
        exclude_features: Features = None,
        size_factor_key: str | None = None,
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
        use_rep
            Entry of ``obsm`` that MetaQModel quantizes in place of a latent of its own: an
            embedding by scVI, Harmony or a foundation model. New cells must bring it too.
        features
            Features that cells are grouped by: a boolean column of ``var``, such as
            ``"highly_variable"``, or a list of names. By default the model selects them.
        exclude_features
            Features that cells are never grouped by, given in the same way: genes of the cell
            cycle, ribosomal or mitochondrial genes. Metacells have them all the same.
        size_factor_key
            Column of ``obs`` with the size factor of each cell, a positive number that takes the
            place of its library size wherever the model reads one: counts are divided by it, and
            expected counts are multiples of it. Only ratios matter, also to cells that come
            later, which bring the column on the same scale.
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
        use_rep: str | None = None,
        features: Features = None,
        exclude_features: Features = None,
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
        use_rep, features, exclude_features
            As of :meth:`setup_anndata`: an entry of the ``obsm`` of the MuData, and features of
            each modality that has the column, or features of these names.
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
        given["kwargs"] = checked_setup_arguments(given["kwargs"])
        user_data: Any = given.get("adata", given.get("mdata"))
        check_is_no_view(user_data, own_name(user_data))
        data = readable(user_data)
        is_transfer = given["kwargs"].get("source_registry") is not None
        check_cells(data, sources, is_query=is_transfer)
        if given["use_rep"] is not None and not cls._takes_embeddings:
            problem = f"{cls.__name__} learns an embedding and takes none, found use_rep="
            fix = "Leave it out, or quantize the embedding with MetaQModel."
            raise InputValueError(f"{problem}{given['use_rep']!r}.", fix, "use_rep")
        check_embedding(data, given["use_rep"], own_name(user_data))
        if given.get("size_factor_key") is not None:
            size_factors(data, given["size_factor_key"], own_name(user_data))
        for name in ("features", "exclude_features"):
            given[name] = find_features(data, sources, given[name], name, own_name(user_data))
        if not is_transfer:
            key, unlabeled = given["labels_key"], given["unlabeled_category"]
            check_labels(data, key, unlabeled, columns.get("labels_key"))
            batch_key, covariates = given["batch_key"], given["categorical_covariate_keys"]
            check_conditions(data, batch_key, covariates, modalities=columns)
        manager = Manager(
            fields=fields_of(sources, given, columns),
            setup_method_args=cls._get_setup_method_args(**given),
            validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
        )
        manager.register_fields(user_data, **given["kwargs"])
        cls.register_manager(manager)

    @classmethod
    def register_manager(cls, adata_manager: Manager) -> None:
        """Store a manager with the class for as long as its cells are there."""
        super().register_manager(adata_manager)
        adata_manager.drop_with_cells(cls._setup_adata_manager_store)

    def _register_manager_for_instance(self, adata_manager: Manager) -> None:
        super()._register_manager_for_instance(adata_manager)
        adata_manager.drop_with_cells(self._per_instance_manager_store[self.id])

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
    def _use_rep(self) -> str | None:
        """Entry of ``obsm`` that is the latent, if it is given."""
        return cast("str | None", self.registry["setup_args"].get("use_rep"))

    @property
    def _size_factor_key(self) -> str | None:
        """Column of ``obs`` with size factors, if they are given."""
        return cast("str | None", self.registry["setup_args"].get("size_factor_key"))

    @property
    def _n_embedding(self) -> int:
        """Dimension of an embedding that is given; 0 if there is none."""
        of_field = self.registry["field_registries"].get(EMBEDDING, {})
        return len(of_field.get("state_registry", {}).get("column_names", []))

    def _are_named(self, kind: str) -> bool:
        """Whether the user named the features of a kind that cells are grouped by."""
        return kind in (self.registry["setup_args"].get("features") or {})

    def _allowed(self, kind: str) -> np.ndarray | None:
        """Which features of a kind cells may be grouped by, ``(n_features,)`` bool; None: any."""
        args = self.registry["setup_args"]
        named, excluded = (
            (args.get(of) or {}).get(kind) for of in ("features", "exclude_features")
        )
        return may_be_read(self._features[kind], named, excluded)

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
