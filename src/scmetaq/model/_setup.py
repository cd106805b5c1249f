from typing import TYPE_CHECKING, Any

from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManagerValidationCheck
from scvi.data.fields import (
    CategoricalJointObsField,
    CategoricalObsField,
    LayerField,
    MuDataCategoricalJointObsField,
    MuDataCategoricalObsField,
    MuDataLayerField,
)

from scmetaq.data._conditions import check_conditions
from scmetaq.data._labels import check_labels
from scmetaq.data._modality import (
    COLUMN_ARGUMENTS,
    ModalityName,
    check_layers_have_modalities,
    find_modalities,
    get_modality,
    warn_of_others,
)
from scmetaq.data._mudata_validation import check_is_mudata, check_mudata
from scmetaq.data._validation import check_anndata

from ._manager import Manager

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass as _Base
else:
    _Base = object


class SetupMixin(_Base):
    """Registering cells with the model class. Counts are neither copied nor changed."""

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
            Column of ``obs`` with the batch of each cell, a condition: what it adds to cells is
            told and taken off, so that metacells group cells of one state across batches.
        categorical_covariate_keys
            Further columns with conditions, each with embeddings of its own.
        labels_key
            Column, or columns, of ``obs`` with labels, such as a coarse and a fine level. Metacells
            report their majority; :meth:`predict_labels` tells those of cells that have none.
        unlabeled_category
            Value of ``labels_key`` that means "no label", as a missing value does.
        **kwargs
            Passed on to :meth:`scvi.data.AnnDataManager.register_fields`.

        Raises
        ------
        TypeError, KeyError, ValueError
            The data are not raw counts of named cells, or a name is unknown; the message says
            what was expected, what was found and how to mend it.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        is_transfer = kwargs.get("source_registry") is not None
        get_modality(modality)
        check_anndata(adata, layer=layer, is_query=is_transfer)
        if not is_transfer:
            check_labels(adata, labels_key, unlabeled_category)
            check_conditions(adata, batch_key, categorical_covariate_keys)
        fields: list[Any] = [LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False)]
        if batch_key is not None:
            fields.append(CategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key))
        if categorical_covariate_keys:
            keys = REGISTRY_KEYS.CAT_COVS_KEY, categorical_covariate_keys
            fields.append(CategoricalJointObsField(*keys))
        manager = Manager(fields=fields, setup_method_args=setup_method_args)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

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
        **kwargs: Any,
    ) -> None:
        """Register the raw counts of one or several modalities of a MuData.

        Cells may lack modalities (mosaic data): they are those of the modality with the same
        barcodes.

        Parameters
        ----------
        mdata
            Cells in rows. The counts are neither copied nor changed.
        rna_layer, adt_layer, atac_layer
            Layer with the raw counts of the modality; its ``X`` by default.
        batch_key
            Column of ``obs`` with the batch of each cell, a condition: what it adds to cells is
            told and taken off, so that metacells group cells of one state across batches.
        categorical_covariate_keys
            Further columns with conditions, each with embeddings of its own.
        labels_key
            Column, or columns, of ``obs`` with labels, such as a coarse and a fine level. Metacells
            report their majority; :meth:`predict_labels` tells those of cells that have none.
        unlabeled_category
            Value of ``labels_key`` that means "no label", as a missing value does.
        modalities
            Name of the modality that an argument is about, as in scvi-tools:
            ``{"rna_layer": "rna", "adt_layer": "prot"}`` takes RNA and ADT counts from these
            modalities, and no other; ``{"labels_key": "rna"}`` beside them takes labels from the
            ``obs`` of a modality, in place of that of the MuData. By default the modalities
            called rna, adt or prot, and atac.
        **kwargs
            Passed on to :meth:`scvi.data.AnnDataManager.register_fields`.

        Raises
        ------
        TypeError, KeyError, ValueError
            As :meth:`setup_anndata`; or modalities that share no cells.
        """
        given = dict(locals())
        check_is_mudata(mdata)
        names = find_modalities(mdata, modalities)
        all_layers = {"rna": rna_layer, "adt": adt_layer, "atac": atac_layer}
        check_layers_have_modalities(mdata, names, all_layers)
        if modalities is None:
            warn_of_others(mdata, names)
        named = {f"{kind}_layer": name for kind, name in names.items()}
        columns = {k: v for k, v in (modalities or {}).items() if k in COLUMN_ARGUMENTS}
        setup_method_args = cls._get_setup_method_args(
            **{**given, "modalities": {**named, **columns}}
        )
        is_transfer = kwargs.get("source_registry") is not None
        layers = {kind: all_layers[kind] for kind in names}
        check_mudata(mdata, names, layers, is_query=is_transfer)
        if not is_transfer:
            check_labels(mdata, labels_key, unlabeled_category, modalities=columns)
            check_conditions(mdata, batch_key, categorical_covariate_keys, modalities=columns)
        fields: list[Any] = [
            MuDataLayerField(
                kind, layers[kind], mod_key=name, mod_required=True, is_count_data=False
            )
            for kind, name in names.items()
        ]
        if batch_key is not None:
            key = REGISTRY_KEYS.BATCH_KEY
            fields.append(
                MuDataCategoricalObsField(key, batch_key, mod_key=columns.get("batch_key"))
            )
        if categorical_covariate_keys:
            key, where = REGISTRY_KEYS.CAT_COVS_KEY, columns.get("categorical_covariate_keys")
            fields.append(
                MuDataCategoricalJointObsField(key, categorical_covariate_keys, mod_key=where)
            )
        manager = Manager(
            fields=fields,
            setup_method_args=setup_method_args,
            validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
        )
        manager.register_fields(mdata, **kwargs)
        cls.register_manager(manager)
