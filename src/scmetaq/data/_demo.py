from importlib.resources import as_file, files

import anndata
from anndata import AnnData


def demo() -> AnnData:
    """Real single-cell RNA counts to try everything on: peripheral blood, 10x Genomics.

    A part of the PBMC 3k data set (10x Genomics, CC BY 4.0); what was kept, its source and
    licence are told in ``scmetaq/data/demo/LICENSE.md``.

    Returns
    -------
    Raw counts in ``X`` (CSR), cell types in ``obs["cell_type"]``.
    """
    with as_file(files("scmetaq.data") / "demo" / "pbmc.h5ad") as path:
        return anndata.read_h5ad(path)
