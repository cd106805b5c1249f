from importlib.resources import files

import numpy as np
import pytest
from scipy import sparse

import scmetaq


@pytest.fixture(scope="module")
def mdata():
    return scmetaq.data.demo_multiome()


@pytest.mark.parametrize(("modality", "n_features"), [("rna", 1663), ("atac", 5000)])
def test_raw_counts_of_paired_cells(mdata, modality, n_features):
    adata = mdata[modality]
    assert adata.shape == (1500, n_features)
    assert adata.obs_names.equals(mdata.obs_names)
    assert sparse.issparse(adata.X)
    assert adata.X.format == "csr"
    assert (adata.X.data % 1 == 0).all()
    assert (adata.X.data > 0).all()
    assert (adata.X.sum(1) > 0).all()
    assert (np.asarray(adata.X.sum(0)) > 0).all()
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique


def test_labels_are_known_and_match_the_counts(mdata):
    labels = mdata.obs["cell_type"]
    assert not labels.isna().any()
    assert labels.nunique() == 14
    assert "Mis" not in set(labels)
    of_oligodendrocytes = (labels == "Oligo").to_numpy()
    marker = mdata["rna"][:, "Mbp"].X.toarray().ravel()
    assert marker[of_oligodendrocytes].mean() > 5 * marker[~of_oligodendrocytes].mean()


def test_features_have_coordinates(mdata):
    genes, peaks = mdata["rna"].var, mdata["atac"].var
    assert (genes["start"] >= 0).sum() == 1660
    known = genes[genes["start"] >= 0]
    assert (known["end"] > known["start"]).all()
    assert set(known["strand"]) == {"+", "-"}
    spelled = [f"{p.chrom}:{p.start}-{p.end}" for p in peaks.itertuples()]
    assert peaks.index.tolist() == spelled


def test_each_call_gives_cells_of_ones_own(mdata):
    total = mdata["atac"].X.sum()
    scmetaq.data.demo_multiome()["atac"].X.data[:] = 0
    assert scmetaq.data.demo_multiome()["atac"].X.sum() == total


def test_source_and_licence_come_along():
    folder = files("scmetaq.data") / "demo"
    told = (folder / "LICENSE.md").read_text()
    for words in ("cortex.h5mu", "GSE126074", "MIT"):
        assert words in told
    assert len((folder / "cortex.h5mu").read_bytes()) < 2e6
