import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data.fields import LayerField, ObsmField


def training_set(counts: sp.csr_matrix, inputs: dict[str, np.ndarray]) -> AnnDataManager:
    """What training reads of each cell, in the form that scvi-tools' loaders take.

    Everything that does not learn is computed once per cell and not once per epoch.

    Parameters
    ----------
    counts
        Raw counts of the selected features, ``(n_cells, n_selected)``.
    inputs
        Further inputs of the module by name, each ``(n_cells, any)``.

    Returns
    -------
    Manager of an AnnData of its own; batches have ``counts`` as ``"X"``, and ``inputs``.
    """
    adata = AnnData(counts)
    adata.obsm.update(inputs)
    layer = LayerField(REGISTRY_KEYS.X_KEY, None, is_count_data=False)
    manager = AnnDataManager([layer, *(_InputField(name, name) for name in inputs)])
    manager.register_fields(adata)
    return manager


class _InputField(ObsmField):
    """Columns have no names, and nobody needs to be told so."""

    def _setup_column_names(self, adata: AnnData) -> np.ndarray:
        return np.arange(self.get_field_data(adata).shape[1])
