from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq._errors import InputValueError, check_int
from scmetaq.data._checks import check_cut
from scmetaq.data._containers import readable
from scmetaq.data._plain import plain
from scmetaq.module import MetaQModule
from scmetaq.nn import cut_tree, merge_codes
from scmetaq.tl._aggregate import aggregate_cells, aggregate_modalities, check_layers
from scmetaq.tl._summarize import (
    combinations,
    find_covariates,
    in_small_pieces,
    join_small_pieces,
    split_metacells,
    write_whole,
)

from ._base import Mixin
from ._blocks import Block
from ._given import Chosen, get_latent_representation
from ._soft import outliers, weights_of_all


class MetacellsMixin(Mixin):
    """Metacells of a trained model, of each cell and aggregated; nothing changes the model."""

    module: MetaQModule
    n_metacells: int

    def get_assignments(
        self,
        adata: AnnData | MuData | None = None,
        *,
        n_metacells: int | None = None,
        within: str | Sequence[str] | None = None,
        min_cells: int = 5,
        indices: Any = None,
        batch_size: int | None = None,
        dataloader: Any = None,
    ) -> pd.DataFrame:
        """Metacell of each cell, also of cells that the model has never seen.

        Parameters
        ----------
        adata
            Cells to assign, with the features of the model; by default those of the model.
        n_metacells
            A smaller number of metacells, without another training: those that are most alike are
            merged. Cuts are nested, a metacell of more lies within one of fewer. By default all.
        within
            Covariates that metacells must not mix: a column of ``obs`` or a list of them, also
            such as the model was not set up with. Each of the ``n_metacells`` metacells is split by
            their combinations, and a piece has the name ``"<metacell>:<category>:..."``.
        min_cells
            Pieces of fewer cells are dissolved, the smallest first: each of their cells goes to
            the most similar piece with the same covariates. Smaller ones remain only where a
            combination of covariates has no more cells. With 1 every piece stays as it is.
        indices, batch_size, dataloader
            As of :meth:`get_latent_representation`.

        Returns
        -------
        Indexed by barcode: ``metacell``, its name, and ``margin``, the similarity to the code
        minus that to the second best one. A low margin marks a cell between metacells, as many
        are in a large state; see :meth:`get_outlier_scores` for cells that fit nowhere. With
        ``within``, cells without a value are in no metacell, and their name is missing.

        Raises
        ------
        KeyError, TypeError, ValueError
            ``within`` does not name columns with categories, or ``min_cells`` is below 1.
        """
        chosen = self._chosen(adata, indices, batch_size, dataloader)
        assignment, margin, covariates = self._assigned(chosen, n_metacells, within, min_cells)
        if covariates is not None:
            assignment = split_metacells(assignment, covariates)
        columns = {_keys.METACELL: assignment.astype(object).infer_objects(), _keys.MARGIN: margin}
        return pd.DataFrame(columns, index=chosen.cells.names).iloc[chosen.place]

    def get_metacells(
        self,
        adata: AnnData | MuData | None = None,
        *,
        n_metacells: int | None = None,
        within: str | Sequence[str] | None = None,
        min_cells: int = 5,
        layers: Sequence[str] | None = None,
        drop_outliers: float | bool | None = None,
        soft: bool = False,
        indices: Any = None,
        batch_size: int | None = None,
        dataloader: Any = None,
    ) -> AnnData | MuData:
        r"""Metacells: mean and summed raw counts of the cells that share a code.

        .. math:: \hat x_k = \frac{1}{|M_k|} \sum_{i \in M_k} x_i

        Parameters
        ----------
        adata
            Cells to aggregate; by default those of the model, where each of the ``n_metacells``
            codes has at least one cell. Among other cells a code may go without, and then has
            no row.
        n_metacells
            A smaller number of metacells, as in :meth:`get_assignments`.
        within, min_cells
            Covariates that metacells must not mix, and how large pieces are, as in
            :meth:`get_assignments`. ``obs["metacell"]`` then holds which of the ``n_metacells``
            metacells a piece is a part of: pieces of one hold cells in the same state under
            other covariates. Cells without a metacell are left out.
        layers
            Further layers to sum, such as ``["spliced", "unspliced"]``, or to compute,
            ``"log1p_mean"`` and ``"geometric_fraction"``: see :func:`scmetaq.tl.aggregate`.
        drop_outliers
            Leave out this share of the cells, those of the highest :meth:`get_outlier_scores`; with
            True those whose log score exceeds the median by five median absolute deviations. The
            most typical cell of each metacell stays.
        soft
            Divide each cell among its nearest metacells by :meth:`get_soft_assignments`: ``X`` and
            layers are of weighted cells, and ``obs["weight"]`` is the sum of their weights. Other
            columns of ``obs`` are of the cells that are assigned. Not with ``within``.
        indices, batch_size, dataloader
            As of :meth:`get_latent_representation`; each cell counts once.

        Returns
        -------
        One observation per metacell, indexed by its name, in the form of
        :func:`scmetaq.tl.aggregate`: mean raw counts of **all** features in ``X``, sums in
        ``layers["counts"]``, and in ``obs`` the number of cells, majorities with their fractions
        (of labels: of the cells that are labelled) and means. Of several modalities a MuData with
        the same metacells in each, made of the cells that have it.
        """
        chosen = self._chosen(adata, indices, batch_size, dataloader)
        whole, _, covariates = self._assigned(chosen, n_metacells, within, min_cells)
        settings: dict[str, Any] = {"layers": check_layers(chosen.data, layers)}
        if soft and within is not None:
            problem = "Expected soft=True without within, found both: pieces of metacells have no"
            raise InputValueError(f"{problem} weights.", argument="soft")
        pieces = whole if covariates is None else split_metacells(whole, covariates)
        if drop_outliers not in (None, False):
            settings["drop_outliers"] = drop_outliers
            pieces = pieces.mask(
                outliers(self._outlier_scores(chosen.cells), pieces, drop_outliers)
            )
        pieces = chosen.of_all(pieces)
        if covariates is None:
            weights = None
            if soft:
                settings["soft"] = True
                weights = weights_of_all(self, chosen, pieces, self._group_of_codes(n_metacells))
            metacells = aggregated(self, chosen.data, pieces, weights=weights, **settings)
        else:
            settings |= {"within": list(covariates.columns), "min_cells": min_cells}
            names = list(pieces.cat.categories)
            metacells = aggregated(self, chosen.data, pieces, names, **settings)
            write_whole(metacells, chosen.of_all(whole), pieces, _keys.METACELL)
        if len(settings) > 1:
            metacells.uns[_keys.UNS]["n_cells_left_out"] = int(pieces.isna().sum())
        return metacells

    get_latent_representation = get_latent_representation

    def get_codebook(self) -> pd.DataFrame:
        """Codes, indexed by metacell name, and the share of training cells that use each.

        Returns
        -------
        One column per dimension of :meth:`get_latent_representation` and ``usage``, which sums
        to one. The cells of metacells that a query added count as training cells.
        """
        self._check_if_trained(warn=False)
        codebook = self.module.codebook
        codes = codebook.codes.detach().cpu().numpy()
        frame = pd.DataFrame(codes, index=pd.Index(self.metacell_names, name=_keys.METACELL))
        frame.columns = [f"z{i}" for i in range(codes.shape[1])]
        usage = codebook.usage.double().cpu().numpy()
        return frame.assign(usage=usage / usage.sum())

    @property
    def metacell_names(self) -> list[str]:
        """Names of the metacells in the order of the codebook."""
        return metacell_names(self.n_metacells)

    def _metacells_of(self, assignment: pd.Series) -> AnnData | MuData:
        """Metacells of the cells of the model by the assignments that it gave."""
        return aggregated(self, self.adata, assignment)

    def _assigned(
        self, chosen: Chosen, n_metacells: int | None, within: Any, min_cells: int
    ) -> tuple[pd.Series, np.ndarray, pd.DataFrame | None]:
        """Metacell of each cell, its margin, and the covariates to split metacells by, if any."""
        check_int("min_cells", min_cells)
        covariates, cells = None, chosen.cells
        if within is not None:
            of_data = find_covariates(readable(chosen.data), within, what="within")
            covariates = of_data.iloc[chosen.rows]
        codebook, device = self.module.codebook, self.module.device
        group = self._group_of_codes(n_metacells)

        def assign(module: Any, block: Block) -> dict[str, torch.Tensor]:
            found = module.inference(block.inputs, block.conditions)
            return module.codebook(**found, group=group)._asdict()

        found = self._in_blocks(assign, cells)
        code = found["assignment"]
        if covariates is not None and min_cells > 1:
            combination = combinations(covariates)
            if len(small := in_small_pieces(code, combination, min_cells)):
                z = torch.from_numpy(self._latents(cells.sample(small))).to(device)

                @torch.no_grad()
                def preference(chosen: np.ndarray) -> Any:
                    rows = z[np.searchsorted(small, chosen)]
                    return codebook.preference(rows, group).cpu().numpy()

                code = join_small_pieces(code, combination, min_cells, preference)
        n = self.n_metacells if group is None else int(group.max()) + 1
        names = pd.Categorical.from_codes(code, metacell_names(n))
        return pd.Series(names, cells.names), found["margin"], covariates

    def _group_of_codes(self, n_metacells: int | None) -> torch.Tensor | None:
        """Group of each code in a cut, ``(n_codes,)``; None if all codes are metacells."""
        n = self.n_metacells if n_metacells is None else n_metacells
        check_cut(n, self.n_metacells)
        if n == self.n_metacells:
            return None
        codebook = self.module.codebook
        return cut_tree(merge_codes(codebook.codes, codebook.usage), n).to(self.module.device)


def metacell_names(n_metacells: int) -> list[str]:
    """Names of metacells by number: mc0000, mc0001, ..."""
    width = max(4, len(str(n_metacells - 1)))
    return [f"mc{i:0{width}d}" for i in range(n_metacells)]


def aggregated(
    model: Any,
    data: Any,
    assignment: pd.Series,
    names: list[str] | None = None,
    weights: Any = None,
    **settings: Any,
) -> AnnData | MuData:
    """Metacells of (weighted) cells, sorted or in the order of ``names``, and their origin."""
    assignment = assignment.astype(object)
    names = sorted(assignment.dropna().unique()) if names is None else names
    sources, data = model._sources, readable(data)
    named = [found.key for found in model._conditions] + model._label_keys
    options: dict[str, Any] = {"categories": names, "categorical": named, "weights": weights}
    no_label = model.registry["setup_args"].get("unlabeled_category")
    options["unlabeled"] = dict.fromkeys(model._label_keys, no_label)
    options["others"] = settings.get("layers")
    assignment = assignment.rename(_keys.METACELL)  # a column of this name is not carried along
    metacells: AnnData | MuData
    if model._reads_mudata:
        there = {name for name, part in data.mod.items() if part.n_obs}
        layers = {s.modality: s.layer for s in sources.values() if s.modality in there}
        metacells = aggregate_modalities(data, assignment, layers=layers, **options)
    else:
        ((_, source),) = sources.items()
        metacells = aggregate_cells(data, assignment, layer=source.layer, **options)
    if model.is_query:
        metacells = _measured(metacells, model)
    named_layers = {kind: source.layer or "X" for kind, source in sources.items()}
    of_model = {**model.init_params_["non_kwargs"], **settings}
    metacells.uns[_keys.UNS] = {
        "function": f"scmetaq.{type(model).__name__}.get_metacells",
        "settings": {k: v for k, v in of_model.items() if v is not None},
        "modality": " + ".join(named_layers),
        "layer": named_layers if model._reads_mudata else next(iter(named_layers.values())),
        "n_cells": int(assignment.notna().sum()),
        "n_metacells": int(assignment.nunique()),
        "scmetaq_version": version("scmetaq"),
    }
    return metacells


def _measured(metacells: Any, model: Any) -> AnnData | MuData:
    """Metacells of a query without the features, and modalities, that it lacks."""
    parts = {}
    for kind, (name, _) in model._sources.items():
        part = metacells if name is None else metacells.mod.get(name)
        missing = model.missing_features[kind]
        if part is not None and len(missing):
            part = part[:, ~part.var_names.isin(missing)].copy()
            part.var = plain(pd.DataFrame(part.var).infer_objects())
        parts[name] = part
    if not model._reads_mudata:
        return parts[None]
    measured = MuData({name: part for name, part in parts.items() if part is not None})
    measured.obs = metacells.obs.loc[measured.obs_names]
    measured.var = plain(measured.var)
    return measured
