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
import anndata
import mudata
{muon}import numpy as np
import pandas as pd
import scanpy as sc
import scmetaq

# metacells are analysed as cells are; X of each modality holds mean counts per cell
metacells = mudata.read_h5mu({metacells})
{paired}{prepared}
# all modalities together: the principal components of each, weighed the same
joint = anndata.AnnData(obs=metacells.obs)
parts = [part[joint.obs_names].obsm["X_pca"] for part in metacells.mod.values()]
joint.obsm["X_joint"] = np.hstack([part / np.linalg.norm(part) for part in parts])
sc.pp.neighbors(joint, n_neighbors=5, use_rep="X_joint")
sc.tl.umap(joint)
{labelled}sc.pl.umap(joint, color={color}, size=20 * joint.obs["n_cells"] ** 0.5)
"""

MUON = """\
import muon as mu
"""

PAIRED = """\
mu.pp.intersect_obs(metacells)  # those with cells in every modality
"""

LABELLED = """\
joint.obs[{column}] = metacells[{name}].obs[{column}]
"""

PREPARED = {
    "rna": """
rna = metacells[{name}]
sc.pp.normalize_total(rna, target_sum=1e4)
sc.pp.log1p(rna)
sc.pp.pca(rna)
""",
    "adt": """
adt = metacells[{name}]
mu.prot.pp.clr(adt)
sc.pp.pca(adt)
""",
    "atac": """
atac = metacells[{name}]
mu.atac.pp.tfidf(atac, scale_factor=1e4)
sc.pp.pca(atac)
""",
}

BACK = """
# back to the cells: which metacell is theirs, and how clearly
cells = {read}
assignments = pd.read_csv({assignments}, index_col="barcode", dtype={{"barcode": str}})
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
    color_of: str | None,
    names: Mapping[str, str],
    is_mosaic: bool,
) -> str:
    """Code for metacells of several modalities.

    Parameters
    ----------
    paths, read, color
        As for one modality.
    color_of
        Modality in whose ``obs`` the column is; None: in that of the metacells themselves.
    names
        Name of the modality by kind of counts.
    is_mosaic
        Whether metacells may lack modalities.
    """
    quoted = {"column": json.dumps(color), "name": json.dumps(color_of)}
    return _filled(
        OF_MODALITIES + BACK,
        paths,
        read=read,
        color=quoted["column"],
        labelled="" if color_of is None else LABELLED.format(**quoted),
        muon=MUON if is_mosaic or set(names) != {"rna"} else "",
        paired=PAIRED if is_mosaic else "",
        prepared="".join(PREPARED[kind].format(name=json.dumps(n)) for kind, n in names.items()),
    )


def _filled(template: str, paths: Mapping[str, str], **words: str) -> str:
    quoted = {name: json.dumps(path) for name, path in paths.items()}
    return template.format(**quoted, **words)
