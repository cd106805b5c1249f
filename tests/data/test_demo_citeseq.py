from importlib.resources import files

import numpy as np
import pytest
from scipy import sparse

import scmetaq


@pytest.fixture(scope="module")
def mdata():
    """Read only."""
    return scmetaq.data.demo_citeseq()


@pytest.mark.parametrize(("kind", "n_features"), [("rna", 8574), ("adt", 14)])
def test_raw_counts_of_each_modality(mdata, kind, n_features):
    counts = mdata[kind].X
    assert counts.shape == (400, n_features)
    assert sparse.issparse(counts)
    assert counts.format == "csr"
    assert (counts.data % 1 == 0).all()
    assert (counts.data >= 0).all()
    assert (counts.sum(1) > 0).all()
    assert (np.asarray(counts.sum(0)) > 0).all()
    assert mdata[kind].obs_names.equals(mdata.obs_names)


def test_names_are_unique_and_batches_told(mdata):
    assert mdata.obs_names.is_unique
    assert mdata.var_names.is_unique
    assert mdata.obs["batch"].value_counts().to_dict() == {"pbmc10k": 200, "pbmc5k": 200}


@pytest.mark.parametrize(
    ("protein", "gene"), [("CD3", "CD3E"), ("CD14", "CD14"), ("CD19", "CD79A")]
)
def test_proteins_go_with_genes_of_their_cells(mdata, protein, gene):
    of_batch = (mdata.obs["batch"] == "pbmc10k").to_numpy()
    bound = mdata["adt"][of_batch, f"ADT_{protein}"].X.toarray().ravel()
    expressed = mdata["rna"][of_batch, gene].X.toarray().ravel()
    is_positive = bound > 200
    assert expressed[is_positive].mean() > 5 * expressed[~is_positive].mean()


def test_each_call_gives_cells_of_ones_own(mdata):
    first = scmetaq.data.demo_citeseq()
    first["adt"].X.data[:] = 0
    assert scmetaq.data.demo_citeseq()["adt"].X.sum() == mdata["adt"].X.sum() > 0


def test_source_and_licence_come_along():
    told = (files("scmetaq.data") / "demo" / "LICENSE.md").read_text()
    assert "pbmc_citeseq.h5mu" in told
    assert "Yosef Lab" in told
