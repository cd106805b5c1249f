"""Code to go on with after a run, for its very files."""

import json
from collections.abc import Mapping

OF_CELLS = """\
import anndata
import pandas as pd
import scanpy as sc
import scmetaq

# metacells are analysed as cells are; X holds mean counts per cell
metacells = anndata.read_h5ad({metacells})
sc.pp.normalize_total(metacells, target_sum=1e4)
sc.pp.log1p(metacells)
sc.pp.pca(metacells)
sc.pp.neighbors(metacells, n_neighbors=5)
sc.tl.umap(metacells)
sc.pl.umap(metacells, color={color}, size=20 * metacells.obs["n_cells"] ** 0.5)
"""

OF_MODALITIES = """\
import mudata
import muon as mu
import pandas as pd
import scanpy as sc
import scmetaq

# metacells are analysed as cells are; X of each modality holds mean counts per cell
metacells = mudata.read_h5mu({metacells})
{paired}{prepared}
# weighted nearest neighbours: all modalities together
mu.pp.neighbors(metacells, n_neighbors=5, n_bandwidth_neighbors=5, n_multineighbors=20)
mu.tl.umap(metacells)
mu.pl.umap(metacells, color={color}, size=20 * metacells.obs["n_cells"] ** 0.5)
"""

PAIRED = """\
mu.pp.intersect_obs(metacells)  # those with cells in every modality
"""

PREPARED = {
    "rna": """
rna = metacells[{name}]
sc.pp.normalize_total(rna, target_sum=1e4)
sc.pp.log1p(rna)
sc.pp.pca(rna)
sc.pp.neighbors(rna, n_neighbors=5)
""",
    "adt": """
adt = metacells[{name}]
mu.prot.pp.clr(adt)
sc.pp.pca(adt)
sc.pp.neighbors(adt, n_neighbors=5)
""",
    "atac": """
atac = metacells[{name}]
mu.atac.pp.tfidf(atac, scale_factor=1e4)
sc.pp.pca(atac)
sc.pp.neighbors(atac, n_neighbors=5)
""",
}

BACK = """
# back to the cells: which metacell is theirs, and how clearly
cells = {read}
assignments = pd.read_csv({assignments}, index_col="barcode")
cells.obs[["metacell", "metacell_margin"]] = assignments[["metacell", "margin"]]
scmetaq.MetaQModel.load({model}, cells)  # the trained model, also for new cells
"""


def of_cells(paths: Mapping[str, str], read: str, color: str) -> str:
    """Code for metacells of one modality.

    Parameters
    ----------
    paths
        Where ``metacells``, ``assignments`` and ``model`` are.
    read
        Code that reads the cells.
    color
        Column of ``obs`` of the metacells to colour by.
    """
    return _filled(OF_CELLS + BACK, paths, read=read, color=json.dumps(color))


def of_modalities(
    paths: Mapping[str, str],
    read: str,
    color: str,
    *,
    names: Mapping[str, str],
    is_mosaic: bool,
) -> str:
    """Code for metacells of several modalities.

    Parameters
    ----------
    paths, read, color
        As for one modality.
    names
        Name of the modality by kind of counts.
    is_mosaic
        Whether metacells may lack modalities.
    """
    prepared = "".join(PREPARED[kind].format(name=json.dumps(n)) for kind, n in names.items())
    return _filled(
        OF_MODALITIES + BACK,
        paths,
        read=read,
        color=json.dumps(color),
        paired=PAIRED if is_mosaic else "",
        prepared=prepared,
    )


def _filled(template: str, paths: Mapping[str, str], **words: str) -> str:
    quoted = {name: json.dumps(path) for name, path in paths.items()}
    return template.format(**quoted, **words)
