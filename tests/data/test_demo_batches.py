from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scmetaq


@pytest.fixture(scope="module")
def adata():
    """Read only."""
    return scmetaq.data.demo_batches()


def test_raw_counts(adata):
    assert adata.shape == (1021, 1000)
    assert sparse.issparse(adata.X)
    assert adata.X.format == "csr"
    assert (adata.X.data % 1 == 0).all()
    assert (adata.X.data > 0).all()
    assert (np.asarray(adata.X.sum(1)) > 0).all()
    assert (np.asarray(adata.X.sum(0)) > 0).all()
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique


def test_lines_are_in_the_batches_of_the_publication(adata):
    n_lines = adata.obs.groupby("batch", observed=True)["cell_type"].nunique().to_dict()
    plates = {f"celseq2_5cl_p{i}": 5 for i in (1, 2, 3)}
    assert n_lines == {"celseq2_3cl": 3, "dropseq_3cl": 3, **plates}
    table = pd.crosstab(adata.obs["batch"], adata.obs["protocol"])
    assert table.loc["dropseq_3cl"].to_dict() == {"CEL-seq2": 0, "Drop-seq": 210}
    assert (table.loc[["celseq2_3cl", *plates], "Drop-seq"] == 0).all()


def test_each_call_gives_cells_of_ones_own(adata):
    first = scmetaq.data.demo_batches()
    first.X.data[:] = 0
    assert scmetaq.data.demo_batches().X.sum() == adata.X.sum() > 0


def test_source_and_licence_come_along():
    told = (files("scmetaq.data") / "demo" / "LICENSE.md").read_text()
    assert "cell_lines.h5ad" in told
    assert "Luyi Tian" in told
