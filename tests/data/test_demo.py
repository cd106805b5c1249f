from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scmetaq

DEMOS = {
    "demo": ("10x Genomics", "CC BY 4.0"),
    "demo_batches": ("cell_lines.h5ad", "Luyi Tian"),
    "demo_citeseq": ("pbmc_citeseq.h5mu", "Yosef Lab"),
    "demo_multiome": ("cortex.h5mu", "MIT"),
}
SHAPES = {
    "demo": {"rna": (1600, None)},
    "demo_batches": {"rna": (1021, 1000)},
    "demo_citeseq": {"rna": (400, 8574), "adt": (400, 14)},
    "demo_multiome": {"rna": (1500, 1663), "atac": (1500, 5000)},
}


@pytest.fixture(scope="module")
def data():
    """Read only."""
    return {name: getattr(scmetaq.data, name)() for name in DEMOS}


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n, of in SHAPES.items() for k in of])
def test_raw_counts_without_empty_rows_or_columns(data, name, kind):
    adata = data[name] if len(SHAPES[name]) == 1 else data[name][kind]
    assert adata.obs_names.equals(data[name].obs_names)
    n_cells, n_features = SHAPES[name][kind]
    assert adata.n_obs == n_cells
    assert adata.n_vars == (n_features or adata.n_vars)
    assert sparse.issparse(adata.X)
    assert adata.X.format == "csr"
    assert (adata.X.data % 1 == 0).all()
    assert (adata.X.data >= 0).all()
    assert (adata.X.sum(1) > 0).all()
    assert (np.asarray(adata.X.sum(0)) > 0).all()
    assert all(of.is_unique for of in (adata.obs_names, adata.var_names, data[name].var_names))


@pytest.mark.parametrize("name", DEMOS)
def test_each_call_reads_the_cells_again(data, name):
    first, again = (getattr(scmetaq.data, name)() for _ in range(2))
    cells = [of if len(SHAPES[name]) == 1 else of["rna"] for of in (first, again, data[name])]
    cells[0].X.data[:] = 0
    assert cells[1].X.sum() == cells[2].X.sum() > 0


@pytest.mark.parametrize("name", DEMOS)
def test_source_and_licence_come_along(name):
    text = (files("scmetaq.data") / "demo" / "LICENSE.md").read_text()
    assert all(part in text for part in DEMOS[name])


def test_batches_are_those_of_the_publication_and_of_the_proteins(data):
    adata = data["demo_batches"]
    n_lines = adata.obs.groupby("batch", observed=True)["cell_type"].nunique().to_dict()
    plates = {f"celseq2_5cl_p{i}": 5 for i in (1, 2, 3)}
    assert n_lines == {"celseq2_3cl": 3, "dropseq_3cl": 3, **plates}
    table = pd.crosstab(adata.obs["batch"], adata.obs["protocol"])
    assert table.loc["dropseq_3cl"].to_dict() == {"CEL-seq2": 0, "Drop-seq": 210}
    assert (table.loc[["celseq2_3cl", *plates], "Drop-seq"] == 0).all()
    found = data["demo_citeseq"].obs["batch"].value_counts().to_dict()
    assert found == {"pbmc10k": 200, "pbmc5k": 200}


@pytest.mark.parametrize(
    ("protein", "gene"), [("CD3", "CD3E"), ("CD14", "CD14"), ("CD19", "CD79A")]
)
def test_proteins_go_with_genes_of_their_cells(data, protein, gene):
    mdata = data["demo_citeseq"]
    of_batch = (mdata.obs["batch"] == "pbmc10k").to_numpy()
    bound = mdata["adt"][of_batch, f"ADT_{protein}"].X.toarray().ravel()
    expressed = mdata["rna"][of_batch, gene].X.toarray().ravel()
    is_positive = bound > 200
    assert expressed[is_positive].mean() > 5 * expressed[~is_positive].mean()


def test_labels_are_known_and_match_the_counts(data):
    mdata = data["demo_multiome"]
    labels = mdata.obs["cell_type"]
    assert not labels.isna().any()
    assert labels.nunique() == 14
    assert "Mis" not in set(labels)
    of_oligodendrocytes = (labels == "Oligo").to_numpy()
    marker = mdata["rna"][:, "Mbp"].X.toarray().ravel()
    assert marker[of_oligodendrocytes].mean() > 5 * marker[~of_oligodendrocytes].mean()
    adata = scmetaq.data.demo()
    of_b_cells = (adata.obs["cell_type"] == "B").to_numpy()
    marker = adata[:, "CD79A"].X.toarray().ravel()
    assert marker[of_b_cells].mean() > 5 * marker[~of_b_cells].mean()


def test_features_have_coordinates(data):
    mdata = data["demo_multiome"]
    genes, peaks = mdata["rna"].var, mdata["atac"].var
    assert (genes["start"] >= 0).sum() == 1660
    known = genes[genes["start"] >= 0]
    assert (known["end"] > known["start"]).all()
    assert set(known["strand"]) == {"+", "-"}
    spelled = [f"{p.chrom}:{p.start}-{p.end}" for p in peaks.itertuples()]
    assert peaks.index.tolist() == spelled
