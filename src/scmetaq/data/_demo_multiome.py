from importlib.resources import as_file, files

import mudata
from mudata import MuData


def demo_multiome() -> MuData:
    """Real RNA and open chromatin of the same cells, to try everything on: mouse cortex.

    A part of the SNARE-seq data of the adult mouse cerebral cortex (Chen, Lake & Zhang 2019);
    what was kept, its source and licence are told in ``scmetaq/data/demo/LICENSE.md``.

    Returns
    -------
    1,500 cells with raw counts in ``X`` (CSR) of two modalities: ``"rna"``, 1,663 genes, and
    ``"atac"``, 5,000 peaks. ``var`` holds ``chrom``, ``start`` and ``end`` in base pairs of mm10,
    and of genes ``strand``; three genes without known place have ``start`` -1. ``obs`` of the
    MuData holds ``cell_type``, ``cell_type_fine`` and ``batch``.

    The cells are shallow: medians of about 250 RNA and 60 chromatin counts.
    """
    with as_file(files("scmetaq.data") / "demo" / "cortex.h5mu") as path:
        return mudata.read_h5mu(path)
