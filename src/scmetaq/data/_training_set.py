import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from scvi.data import AnnDataManager
from scvi.data.fields import ObsmField


def training_set(inputs: dict[str, np.ndarray | sp.csr_matrix]) -> AnnDataManager:
    """What training reads of each cell, in the form that scvi-tools' loaders take.

    Everything that does not learn is computed once per cell and not once per epoch.

    Parameters
    ----------
    inputs
        Inputs of the module by name, each ``(n_cells, any)``, dense or CSR.

    Returns
    -------
    Manager of an AnnData of its own, whose batches hold the inputs as dense tensors.
    """
    n_cells = next(iter(inputs.values())).shape[0]
    adata = AnnData(shape=(n_cells, 0))
    adata.obsm.update(inputs)
    manager = AnnDataManager([_InputField(name, name) for name in inputs])
    manager.register_fields(adata)
    return manager


class _InputField(ObsmField):
    """Columns have no names, and nobody needs to be told so."""

    def _setup_column_names(self, adata: AnnData) -> np.ndarray:
        return np.arange(self.get_field_data(adata).shape[1])
