from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import scanpy as sc
import torch
from anndata import AnnData
from mudata import MuData

from scmetaq import _keys
from scmetaq._errors import InputKeyError, InputValueError, check_choice, check_int
from scmetaq.data._cells import part_of
from scmetaq.data._containers import column_of, readable
from scmetaq.data._plain import plain_column, with_plain_tables
from scmetaq.module import MetaQModule, SCPoliModule

from ._base import Mixin
from ._blocks import Block

_MOST_VALUES = 20_000_000
"""Counts that are drawn at a time."""


class ConditionsMixin(Mixin):
    """Embeddings of batches and other conditions, and counts that are decoded with them."""

    module: MetaQModule | SCPoliModule

    def get_condition_embeddings(self) -> dict[str, AnnData]:
        """Learnt vectors of the categories of each condition key: embeddings of samples.

        Returns
        -------
        AnnData by condition key, a row per category: ``X`` with its vector, ``obs["n_cells"]``,
        and the columns of the cells' ``obs`` that are the same for all cells of each category,
        all missing for categories of which the model has no cells, such as those of the
        reference in the model of a query; ``obsm["X_pca"]`` with all principal components of the
        vectors and ``uns["pca"]["variance_ratio"]``.

        Raises
        ------
        ValueError
            The model was set up without conditions.

        References
        ----------
        De Donno et al., scPoli, Nature Methods 2023.
        """
        self._check_if_trained(warn=False)
        if not self._conditions:
            problem = "The model knows no conditions: name some at set-up with batch_key or"
            raise ValueError(f"{problem} categorical_covariate_keys.")
        embedding = self.module.condition_embedding
        found = {
            key: AnnData(
                embedding.table(key).detach().cpu().numpy(),
                obs=self._obs_of_categories(key, [str(c) for c in categories], modality),
                var=pd.DataFrame(index=[f"e{i}" for i in range(embedding.table(key).shape[1])]),
            )
            for key, categories, modality in self._conditions
        }
        for of_key in found.values():
            n_components = min(of_key.n_obs - 1, of_key.n_vars)
            with np.errstate(invalid="ignore"):  # no variance of one category
                sc.pp.pca(with_plain_tables(of_key), n_comps=n_components, svd_solver="full")
            del of_key.uns["pca"]["params"]  # None among them: not every anndata reads it
        return found

    def _obs_of_categories(
        self, key: str, categories: list[str], modality: str | None
    ) -> pd.DataFrame:
        """Number of cells, and columns that do not vary within categories."""
        names = pd.Index(categories)
        if self.adata is None:
            return pd.DataFrame(index=names)
        part = part_of(readable(self.adata), modality)
        of_cell = column_of(part, key).astype(str).to_numpy()
        counts = pd.Series(of_cell).value_counts().reindex(names)  # missing: a reference's
        found = pd.DataFrame({_keys.N_CELLS: counts.to_numpy()}, index=names)
        for name, column in part.obs.items():
            if str(name) not in (key, _keys.N_CELLS) and not _keys.is_bookkeeping(name):
                codes, values = pd.factorize(plain_column(column))  # -1: missing
                per = pd.Series(codes).where(codes >= 0).groupby(of_cell)
                if bool((per.nunique() <= 1).all()):
                    code = per.first().reindex(names)
                    of_name = [None if np.isnan(c) else values[int(c)] for c in code]
                    found[str(name)] = pd.Series(of_name, names, dtype=object).infer_objects()
        return found

    def get_normalized_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Any = None,
        transform_batch: Any = None,
        *,
        modality: str | None = None,
        features: Sequence[str] | None = None,
        library_size: float | Literal["latent"] = 1,
        metacells: bool = False,
        batch_size: int | None = None,
        dataloader: Any = None,
    ) -> pd.DataFrame:
        """Expected counts decoded from the latent, without the noise of counting.

        Parameters
        ----------
        adata
            Cells with the features of the model; by default its own.
        indices, batch_size, dataloader
            As of :meth:`get_latent_representation`.
        transform_batch
            Category of the first condition key to decode all cells as; by default their own.
        modality
            Kind of counts, ``"rna"``, ``"adt"`` or ``"atac"``; by default the first.
        features
            Features to return, of those that the model reads; by default all of these.
        library_size
            Sum that each row has over the features that the model reads; ``"latent"``: counts on
            the scale of each cell's own.
        metacells
            Decode the codes, and return the mean of each metacell over its cells. Of
            :class:`~scmetaq.MetaQModel`.

        Returns
        -------
        A row for each cell, or for each metacell with cells, and a column for each feature.
        """
        kind = self._kind(modality)
        names = self._features[kind][self._selected(kind)]
        if unknown := [of for of in features or () if of not in names]:
            problem = f"Expected features that the model reads, found {unknown[0]!r}."
            fix = "See the columns without features, or raise n_top_features of the model."
            raise InputKeyError(problem, fix, "features")
        chosen = self._chosen(adata, indices, batch_size, dataloader)
        code = self._category(transform_batch)
        columns = torch.from_numpy(names.get_indexer(pd.Index(features or names)))

        def decode(module: Any, block: Block) -> dict[str, torch.Tensor]:
            latent = module.inference(block.inputs, block.conditions)
            conditions = _as_category(block.conditions, code)
            found = {}
            if metacells:
                found["code"] = assignment = module.codebook(**latent).assignment
                decoded = module.decode_codes(module.codebook.codes, assignment, conditions)
            else:
                decoded = module.decode(latent["z"], conditions)
            size = _sizes(module, block, kind)
            mean = decoded[kind].mean(size)
            if library_size != "latent":
                mean = mean * (library_size / mean.sum(1, keepdim=True))
            return found | {"mean": mean[:, columns.to(mean.device)]}

        if metacells and not hasattr(self.module, "codebook"):
            problem = f"Expected no metacells: {type(self).__name__} has none."
            raise InputValueError(problem, argument="metacells")
        found = self._in_blocks(decode, chosen.cells)
        table = pd.DataFrame(found["mean"], chosen.cells.names, names[columns.numpy()])
        if not metacells:
            return table.iloc[chosen.place]
        of_cells: Any = self
        by = np.array(of_cells.metacell_names)[found["code"]]
        return table.groupby(by).mean().rename_axis(index=_keys.METACELL)

    def posterior_predictive_sample(
        self,
        adata: AnnData | MuData | None = None,
        n_samples: int = 1,
        *,
        indices: Any = None,
        transform_batch: Any = None,
        batch_size: int | None = None,
        dataloader: Any = None,
    ) -> Any:
        """Draw counts of cells from the distributions that the model decodes.

        With it :class:`scvi.criticism.PosteriorPredictiveCheck` takes the model, and the cells
        with the features that the model reads; see :doc:`/user_guide/scvi_tools`.

        Parameters
        ----------
        adata, indices, transform_batch, batch_size, dataloader
            As of :meth:`get_normalized_expression`.
        n_samples
            Draws for each cell, by the generator of torch.

        Returns
        -------
        Sparse array :class:`sparse.GCXS`, ``(n_cells, n_features)`` or, of several draws,
        ``(n_cells, n_features, n_samples)``, of the features that the model reads; of a MuData a
        dict of them by the name of the modality.
        """
        from sparse import GCXS, concatenate

        check_int("n_samples", n_samples)
        chosen = self._chosen(adata, indices, batch_size, dataloader)
        code = self._category(transform_batch)

        def draw(module: Any, block: Block) -> dict[str, torch.Tensor]:
            found = module.inference(block.inputs, block.conditions)
            conditions, draws = _as_category(block.conditions, code), {}
            for i in range(n_samples):
                z = found["posterior"].sample() if "posterior" in found else found["z"]
                for kind, decoded in module.decode(z, conditions).items():
                    draws[f"{kind}:{i}"] = decoded.sample(_sizes(module, block, kind))
            kinds = module.parts
            return {k: torch.stack([draws[f"{k}:{i}"] for i in range(n_samples)], 2) for k in kinds}

        n_values = n_samples * sum(len(self._selected(kind)) for kind in self._sources)
        step = max(1, _MOST_VALUES // n_values)
        pieces: dict[str, list[Any]] = {kind: [] for kind in self._sources}
        for start in range(0, chosen.cells.n_cells, step):
            some = np.arange(start, min(start + step, chosen.cells.n_cells))
            for kind, drawn in self._in_blocks(draw, chosen.cells.only(some)).items():
                drawn = drawn[:, :, 0] if n_samples == 1 else drawn
                pieces[kind].append(GCXS.from_numpy(drawn, compressed_axes=(0,)))
        joined = {kind: concatenate(of, axis=0)[chosen.place] for kind, of in pieces.items()}
        names = {kind: of.modality for kind, of in self._sources.items()}
        return (
            {str(names[k]): of for k, of in joined.items()} if self._reads_mudata else joined[kind]
        )

    def _kind(self, modality: str | None) -> str:
        """A kind of counts of the model, by default the first."""
        check_choice("modality", modality, (None, *self._sources))
        return modality or next(iter(self._sources))

    def _category(self, transform_batch: Any) -> int | None:
        """Number of a category of the first condition key."""
        if transform_batch is None:
            return None
        known = [str(of) for of in self._conditions[0].categories] if self._conditions else []
        check_choice("transform_batch", str(transform_batch), known)
        return known.index(str(transform_batch))


def _as_category(conditions: torch.Tensor, code: int | None) -> torch.Tensor:
    """Conditions with another category of the first key."""
    if code is None:
        return conditions
    first = torch.full_like(conditions[:, :1], code)
    return torch.cat([first, conditions[:, 1:]], 1)


def _sizes(module: Any, block: Block, kind: str) -> torch.Tensor:
    """Size factors of the cells of a block, one for those without counts."""
    size = module.parts[kind].size(block.inputs[kind])
    return torch.where(size > 0, size, torch.ones_like(size))
