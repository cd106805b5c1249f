import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi import settings

from scmetaq._errors import InputTypeError, InputValueError, check_share
from scmetaq.data._advice import other_names
from scmetaq.data._cells import called, part_of
from scmetaq.data._checks import check_cells
from scmetaq.data._columns import check_categories
from scmetaq.data._grouping import check_embedding
from scmetaq.data._query import (
    Aligned,
    align,
    align_conditions,
    layers_of_query,
    new_categories,
)
from scmetaq.train import say

from ._base import Mixin
from ._given import check_mapping_arguments
from ._training import few_cells_allowed

_MOST_CELLS = 5_000
"""Cells of new conditions that are fitted to, where there are more."""


class MappingMixin(Mixin):
    """Mapping of new cells, also of new conditions, onto a trained model.

    The module is a :class:`~scmetaq.module.ReferenceMappingModule`.
    """

    @classmethod
    def load_query_data(
        cls,
        query: AnnData | MuData | None = None,
        reference: str | Path | Self | None = None,
        *,
        min_shared: float = 0.2,
        layer: str | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        **kwargs: Any,
    ) -> Self:
        """Make a model of new cells from a trained one, without the cells of the reference.

        Batches and other conditions may be new: :meth:`train` estimates their effects. Everything
        else is that of the reference, and stays so to the last bit. Features are matched by name.
        Those that only the query has are ignored. Those that it lacks are filled in with what a
        factor model of the reference expects from the others; see :attr:`missing_features`.

        Parameters
        ----------
        query
            New cells with raw counts, and the reference's columns of conditions. Of several
            modalities at least one must be there. It is not changed.
        reference
            A trained model, or a folder that :meth:`save` wrote.
        min_shared
            Least share of the features that the model reads which the query must have.
        layer
            Layer of the query with the raw counts, of several modalities of each that has it, or
            ``"X"``; by default where the reference had them.
        accelerator, device
            Device to load a saved model to, as in scvi-tools.
        **kwargs
            scvi-tools' other arguments: ``adata`` and ``reference_model``, its names of the first
            two, and those that say what is done anyway, such as ``freeze_expression=True``.

        Returns
        -------
        A model whose cells are those of the query. Before :meth:`train`, cells of known
        conditions get exactly what the reference would give them.

        Raises
        ------
        TypeError, KeyError, ValueError
            The query is not raw counts of named cells, lacks a condition, all modalities or too
            many features, or the reference is not trained.

        References
        ----------
        Lotfollahi et al., scArches, Nature Biotechnology 2022; Kang et al., Symphony, Nature
        Communications 2021.

        Examples
        --------
        >>> cells = scmetaq.data.demo_batches()
        >>> is_query = (cells.obs["batch"] == "celseq2_5cl_p3").to_numpy()
        >>> reference, query = cells[~is_query].copy(), cells[is_query].copy()
        >>> scmetaq.MetaQModel.setup_anndata(reference, batch_key="batch")
        >>> model = scmetaq.MetaQModel(reference, n_metacells=30)
        >>> model.train()
        >>> query_model = scmetaq.MetaQModel.load_query_data(query, model)
        >>> query_model.train()
        >>> found = query_model.get_assignments()
        """
        query, reference = kwargs.pop("adata", query), kwargs.pop("reference_model", reference)
        check_mapping_arguments(kwargs)
        check_share("min_shared", min_shared)
        known = cls._loaded_reference(reference, accelerator=accelerator, device=device)
        aligned = known._aligned(query, layer=layer)
        known._check_shared(query, aligned.missing, min_shared)
        of_user: Any = {"user": query, "layers": layers_of_query(query, known._sources, layer)}
        check_cells(aligned.data, known._sources, is_query=True, where="query", **of_user)
        new = new_categories(aligned.data, known._conditions)
        set_up = cls.setup_mudata if known._reads_mudata else cls.setup_anndata
        with few_cells_allowed():
            set_up(
                aligned.data,
                source_registry=known.registry,
                extend_categories=True,
                **known.registry["setup_args"],
            )
        model = cls(aligned.data, **known._init_arguments)
        model._become_query_of(known, aligned.missing)
        say(_summary(model, new))
        return model

    @classmethod
    def prepare_query_anndata(
        cls,
        adata: Any,
        reference_model: str | Path | Self,
        *,
        return_reference_var_names: bool = False,
        inplace: bool = True,
    ) -> Any:
        """Check a query; nothing is to be prepared, since :meth:`load_query_data` matches features.

        The same arguments as in scvi-tools, which fills missing features with zeros.

        Returns
        -------
        Names of the features of the reference, on request, of a MuData in a dict by modality;
        without ``inplace`` the query, as it is.
        """
        known = cls._loaded_reference(reference_model)
        if return_reference_var_names:
            return known.get_var_names()
        known._aligned(adata)
        return None if inplace else adata

    prepare_query_mudata = prepare_query_anndata

    @property
    def missing_features(self) -> dict[str, pd.Index]:
        """Features of the reference that the query lacks, by kind of counts."""
        missing = self.reference_["missing"] if self.is_query else {}
        return {kind: pd.Index(missing.get(kind, []), dtype=object) for kind in self._sources}

    @property
    def new_conditions(self) -> dict[str, list[Any]]:
        """Categories of each condition key that the reference does not know."""
        n_known = self.reference_["n_categories"] if self.is_query else {}
        return {
            found.key: found.categories[n_known.get(found.key, len(found.categories)) :]
            for found in self._conditions
        }

    @classmethod
    def _loaded_reference(cls, reference: Any, **device: Any) -> Self:
        if isinstance(reference, str | Path):
            reference = cls.load(reference, False, **device)
        if not isinstance(reference, cls):
            problem = f"Expected a trained {cls.__name__} or the folder of a saved one as"
            raise InputTypeError(
                f"{problem} reference, found {type(reference).__name__}.", argument="reference"
            )
        if not reference.is_trained_:
            problem = "The reference is not trained:"
            raise InputValueError(problem, "call its train() first.", "reference")
        return reference

    def _aligned(self, query: AnnData | MuData, **options: Any) -> Aligned:
        """New cells in the form of the model's own; see :func:`~scmetaq.data._query.align`."""
        options["use_rep"] = self._use_rep
        aligned = align(query, self._sources, self._features, **options)
        align_conditions(aligned.data, self._conditions)
        check_embedding(aligned.data, self._use_rep, "query", self._n_embedding)
        self._library_sizes(aligned.data, "query")
        return aligned

    def _aligned_to_query(self, adata: AnnData | MuData) -> AnnData | MuData:
        """New cells with the features that the query of this model was measured in."""
        aligned = self._aligned(adata, lacking=self.missing_features)
        for kind, absent in aligned.missing.items():
            further = absent.difference(self.missing_features[kind])
            if len(further):
                problem = f"Expected the {kind} features that the query was measured in, found"
                fix = "Map these cells on their own with load_query_data."
                raise InputValueError(
                    f"{problem} {len(further)} missing, e.g. {further[0]!r}.", fix, "adata"
                )
        check_cells(aligned.data, self._sources, is_query=True, where="query", user=adata)
        check_categories(aligned.data, self._conditions)
        return aligned.data

    def _check_shared(self, query: Any, missing: Mapping[str, pd.Index], min_shared: float) -> None:
        """Refuse a query with too few of the features that the model reads."""
        for kind, absent in missing.items():
            part, names = self.module.parts[kind], self._features[kind]
            reads = part.feature_scaling if part.linear_path is None else part.linear_path
            of_part = names[reads.features.cpu().numpy()].to_numpy()
            n_shared = int((~np.isin(of_part, absent)).sum())
            is_enough = n_shared >= min_shared * len(of_part)
            if is_enough and len(absent) < len(names) / 5:
                continue
            modality = self._sources[kind].modality
            sides = other_names(part_of(query, modality), names, called("query", modality))
            if is_enough and " match by " in sides:
                lacking = f"{len(absent):,} of {len(names):,} {kind} features are missing."
                warnings.warn(f"{lacking} {sides}", UserWarning, stacklevel=3)
            if not is_enough:
                raise InputValueError(
                    f"Expected at least {min_shared:.0%} of the {len(of_part):,} {kind} features "
                    f"that the reference reads, found {n_shared:,} in the query. {sides}",
                    "Bring the names to the same kind, or pass a lower min_shared.",
                    "min_shared",
                )

    def _become_query_of(self, reference: Self, missing: Mapping[str, pd.Index]) -> None:
        """Copy everything from the reference."""
        self.size_scale_ = reference.size_scale_
        self.reference_ = {
            "n_categories": {c.key: len(c.categories) for c in reference._conditions},
            "n_metacells": getattr(reference, "n_metacells", 0),
            "missing": {kind: [*absent] for kind, absent in missing.items()},
        }
        self.module.to(reference.module.device)
        self.module.take_over(reference.module)
        for kind, absent in missing.items():
            is_missing = torch.from_numpy(self._features[kind].isin(absent))
            self.module.parts[kind].coverage.set_missing(is_missing)
        self.module.eval()
        self.is_trained_ = True
        self.history_: dict[str, Any] = {}

    def _check_query_training(self, train_size: float | None, early_stopping: bool) -> None:
        """Refuse arguments that a query cannot have, also where no network is trained."""
        if early_stopping or train_size is not None:
            raise InputValueError(
                "Expected no train_size or early_stopping, found some: new conditions of a query "
                "are fitted to all its cells, and none are held out.",
                argument="early_stopping" if early_stopping else "train_size",
            )

    def _cells_of_new_conditions(self) -> np.ndarray:
        """Sorted indices of at most 5,000 cells with a new category, evenly of each."""
        n_new = sum(map(len, self.new_conditions.values()))
        if not n_new:
            say("No condition of the query is new: there is nothing to train.")
        conditions = self._cells(self.adata).conditions
        n_known = [self.reference_["n_categories"][found.key] for found in self._conditions]
        is_new = conditions >= np.array(n_known)  # n_cells x n_keys
        rng, chosen = np.random.default_rng(settings.seed or 0), set()
        for codes, of_key in zip(conditions.T, is_new.T, strict=True):
            for category in np.unique(codes[of_key]):
                found = rng.permutation(np.flatnonzero(codes == category))
                chosen |= set(found[: max(1, _MOST_CELLS // n_new)].tolist())
        return np.array(sorted(chosen), dtype=int)


def _summary(model: MappingMixin, new: Mapping[str, list[Any]]) -> str:
    """What differs between a query and its reference."""
    parts = []
    for kind, absent in model.missing_features.items():
        n_features = len(model._features[kind])
        if len(absent):
            n_of_all = f"{len(absent):,} of {n_features:,} {kind} features"
            parts.append(f"{n_of_all} are missing and filled in")
        name = model._sources[kind].modality
        if name is not None and not model.adata.mod[name].n_obs:
            parts.append(f"{kind} ({name!r}) is missing and predicted from the others")
    for key, categories in new.items():
        if categories:
            shown = ", ".join(map(str, categories[:5])) + (", ..." if len(categories) > 5 else "")
            parts.append(f"{len(categories)} new in {key!r} ({shown}): call train() to fit them")
    report = "; ".join(parts) or "all features are there, no condition is new"
    return f"Query of {model.adata.n_obs:,} cells: {report}."
