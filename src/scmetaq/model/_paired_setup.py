from typing import Any

from anndata import AnnData
from mudata import MuData

from scmetaq.data._modality import ModalityName, find_modalities
from scmetaq.data._mudata_validation import check_is_mudata, check_paired

from ._reading import ReadingMixin
from ._setup import SetupMixin

KINDS = ("rna", "atac")
"""Kinds of counts that COEM embeds together."""


class PairedSetupMixin(SetupMixin, ReadingMixin):
    """Registering RNA and ATAC counts of the same cells. Counts are neither copied nor changed."""

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
        """Not for this model, which needs two modalities: use :meth:`setup_mudata`.

        Parameters
        ----------
        adata, modality, layer, batch_key, categorical_covariate_keys, labels_key, \
unlabeled_category, **kwargs
            As of other models.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            f"{cls.__name__} embeds RNA and ATAC counts of the same cells, found one modality. Put "
            'both in a MuData, mudata.MuData({"rna": rna, "atac": atac}), and register it with '
            f"{cls.__name__}.setup_mudata. Metacells of one modality are MetaQModel's."
        )

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
        """Register the raw counts of RNA and ATAC of the cells of a MuData.

        Parameters
        ----------
        mdata
            Cells in rows, each with both modalities. The counts are neither copied nor changed.
        rna_layer, atac_layer
            Layer with the raw counts of the modality; its ``X`` by default.
        adt_layer
            Not for this model, which does not use ADT counts.
        batch_key
            Not for this model, which knows no conditions; MetaQModel does.
        categorical_covariate_keys
            Not for this model, like ``batch_key``.
        labels_key
            Column, or columns, of ``obs`` with labels. Metacells report their majority.
        unlabeled_category
            Value of ``labels_key`` that means "no label".
        modalities
            Name of the modality that an argument is about, as in scvi-tools:
            ``{"rna_layer": "gex", "atac_layer": "peaks"}``; ``{"labels_key": "rna"}`` beside them
            takes labels from the ``obs`` of a modality. By default the modalities called rna or
            gex, and atac or peaks.
        **kwargs
            Passed on to :meth:`scvi.data.AnnDataManager.register_fields`.

        Raises
        ------
        TypeError, KeyError, ValueError
            The data are not raw counts of named cells, a modality is missing, cells lack one of
            them, or a name is unknown; the message says what was expected, what was found and how
            to mend it.
        """
        check_is_mudata(mdata)
        if adt_layer is not None or "adt_layer" in (modalities or {}):
            raise ValueError(
                f"{cls.__name__} embeds RNA and ATAC counts, found a layer of ADT counts. Leave "
                "adt_layer out, or use MetaQModel, which takes all three."
            )
        _check_no_conditions(cls.__name__, batch_key, categorical_covariate_keys)
        names = find_modalities(mdata, modalities)
        _check_kinds(names, list(mdata.mod), cls.__name__)
        names = {kind: names[kind] for kind in KINDS}
        check_paired(mdata, list(names.values()))
        super().setup_mudata(
            mdata,
            rna_layer=rna_layer,
            atac_layer=atac_layer,
            labels_key=labels_key,
            unlabeled_category=unlabeled_category,
            modalities={
                **(modalities or {}),
                **{f"{kind}_layer": name for kind, name in names.items()},
            },
            **kwargs,
        )

    def _checked_query(self, adata: AnnData | MuData) -> AnnData | MuData:
        """New cells with the features of the model and both modalities."""
        mdata = super()._checked_query(adata)
        check_paired(mdata, [str(source.modality) for source in self._sources.values()])
        return mdata


def _check_kinds(names: dict[str, str], there: list[str], model: str) -> None:
    missing = [kind for kind in KINDS if kind not in names]
    if missing:
        raise ValueError(
            f"{model} needs counts of RNA and ATAC, found no {missing[0].upper()} among the "
            f"modalities {', '.join(map(repr, there))}. Say which they are: "
            'modalities={"rna_layer": "rna", "atac_layer": "atac"}.'
        )


def _check_no_conditions(model: str, batch_key: str | None, keys: list[str] | None) -> None:
    if batch_key is not None or keys:
        raise ValueError(
            f"{model} knows no conditions, found batch_key={batch_key!r} and "
            f"categorical_covariate_keys={keys!r}. Leave them out, or use MetaQModel, whose "
            "metacells group cells of one state across batches."
        )
