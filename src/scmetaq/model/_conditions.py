import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData

from scmetaq import _keys
from scmetaq.data._cells import part_of
from scmetaq.data._columns import with_plain_tables
from scmetaq.data._containers import readable
from scmetaq.module import MetaQModule, SCPoliModule

from ._base import Mixin


class ConditionsMixin(Mixin):
    """Embeddings of batches, donors and other conditions."""

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
        obs = part_of(readable(self.adata), modality).obs
        of_cell = obs[key].astype(str).to_numpy()
        counts = pd.Series(of_cell).value_counts().reindex(names)  # missing: a reference's
        found = pd.DataFrame({_keys.N_CELLS: counts.to_numpy()}, index=names)
        for name, column in obs.items():
            if str(name) not in (key, _keys.N_CELLS) and not _keys.is_bookkeeping(name):
                codes, values = pd.factorize(column)  # -1: missing
                per = pd.Series(codes).where(codes >= 0).groupby(of_cell)
                if bool((per.nunique() <= 1).all()):
                    code = per.first().reindex(names)
                    of_name = [None if np.isnan(c) else values[int(c)] for c in code]
                    found[str(name)] = pd.Series(of_name, names, dtype=object).infer_objects()
        return found
