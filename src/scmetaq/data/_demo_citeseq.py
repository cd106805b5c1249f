from importlib.resources import as_file, files

import mudata
from mudata import MuData


def demo_citeseq() -> MuData:
    """Real CITE-seq counts to try several modalities on: peripheral blood, 10x Genomics.

    RNA and 14 surface proteins of 400 cells, half of them of each of two data sets (10x Genomics,
    CC BY 4.0); what was kept, its source and licence are told in
    ``scmetaq/data/demo/LICENSE.md``.

    Returns
    -------
    Raw counts in ``X`` (CSR) of the modalities ``"rna"`` and ``"adt"``; the data set of each cell
    in ``obs["batch"]``. There are no cell types.
    """
    with as_file(files("scmetaq.data") / "demo" / "pbmc_citeseq.h5mu") as path:
        return mudata.read_h5mu(path)
