from importlib.resources import as_file, files

import anndata
from anndata import AnnData


def demo_batches() -> AnnData:
    """Real counts of the same cell lines in several batches: human lung cancer, Tian et al. 2019.

    1,021 cells of five cell lines, which are known by their genotype and not from the counts, in
    five batches of two protocols (MIT licence); what was kept, its source and licence are told in
    ``scmetaq/data/demo/LICENSE.md``.

    Returns
    -------
    Raw counts of 1,000 genes in ``X`` (CSR); in ``obs`` the line, ``"cell_type"``, and
    ``"batch"``, ``"protocol"`` and ``"mixture"``, of three or five lines.
    """
    with as_file(files("scmetaq.data") / "demo" / "cell_lines.h5ad") as path:
        return anndata.read_h5ad(path)
