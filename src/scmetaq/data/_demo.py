"""Small real data that come with the package."""

from collections.abc import Callable
from importlib.resources import as_file, files
from typing import Any

import anndata
import mudata
from anndata import AnnData
from mudata import MuData


def demo() -> AnnData:
    """Real single-cell RNA counts to try everything on: peripheral blood, 10x Genomics.

    A part of the PBMC 3k data set (10x Genomics, CC BY 4.0); selection, source and licence are
    documented in ``scmetaq/data/demo/LICENSE.md``.

    Returns
    -------
    Raw counts in ``X`` (CSR), cell types in ``obs["cell_type"]``.
    """
    return _read("pbmc.h5ad", anndata.read_h5ad)


def demo_batches() -> AnnData:
    """Real counts of the same cell lines in several batches: human lung cancer, Tian et al. 2019.

    1,021 cells of five cell lines, which are known by their genotype and not from the counts, in
    five batches of two protocols (MIT licence); selection, source and licence are documented in
    ``scmetaq/data/demo/LICENSE.md``.

    Returns
    -------
    Raw counts of 1,000 genes in ``X`` (CSR); in ``obs`` the line, ``"cell_type"``, and
    ``"batch"``, ``"protocol"`` and ``"mixture"``, of three or five lines.
    """
    return _read("cell_lines.h5ad", anndata.read_h5ad)


def demo_citeseq() -> MuData:
    """Real CITE-seq counts to try several modalities on: peripheral blood, 10x Genomics.

    RNA and 14 surface proteins of 400 cells, half of them of each of two data sets (10x Genomics,
    CC BY 4.0); selection, source and licence are documented in ``scmetaq/data/demo/LICENSE.md``.

    Returns
    -------
    Raw counts in ``X`` (CSR) of the modalities ``"rna"`` and ``"adt"``; the data set of each cell
    in ``obs["batch"]``. There are no cell types.
    """
    return _read("pbmc_citeseq.h5mu", mudata.read_h5mu)


def demo_multiome() -> MuData:
    """Real RNA and open chromatin of the same cells, to try everything on: mouse cortex.

    A part of the SNARE-seq data of the adult mouse cerebral cortex (Chen, Lake & Zhang 2019);
    selection, source and licence are documented in ``scmetaq/data/demo/LICENSE.md``. The cells are
    shallow: medians of about 250 RNA and 60 chromatin counts.

    Returns
    -------
    1,500 cells with raw counts in ``X`` (CSR) of two modalities: ``"rna"``, 1,663 genes, and
    ``"atac"``, 5,000 peaks. ``var`` holds ``chrom``, ``start`` and ``end`` in base pairs of mm10,
    and of genes ``strand``; three genes without known place have ``start`` -1. ``obs`` of the
    MuData holds ``cell_type``, ``cell_type_fine`` and ``batch``.
    """
    return _read("cortex.h5mu", mudata.read_h5mu)


def _read(name: str, reader: Callable[[Any], Any]) -> Any:
    with as_file(files("scmetaq.data") / "demo" / name) as path:
        return reader(path)
