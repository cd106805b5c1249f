import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from scmetaq.data._cells import Condition, Counts, Source, raw_counts, read_cells

X = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
ROW = np.array([2, -1, 0, 3, -1, 1])
WHOLE = np.where((ROW >= 0)[:, None], X[ROW], 0)


@pytest.fixture(params=[sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def counts(request):
    return request.param(X)


@pytest.mark.parametrize("cells", [slice(1, 3), slice(0, 4), np.array([0, 3]), np.arange(4)])
def test_counts_of_cells_that_all_have_the_modality(counts, cells):
    of = Counts(counts)
    assert of.is_present.all()
    assert (of.n_cells, of.n_features) == (4, 3)
    np.testing.assert_array_equal(of.of(cells).toarray(), X[cells])


@pytest.mark.parametrize("cells", [slice(0, 6), slice(1, 5), np.array([0, 1, 5]), np.array([1, 4])])
def test_cells_without_the_modality_have_rows_without_counts(counts, cells):
    of = Counts(counts, ROW)
    np.testing.assert_array_equal(of.is_present, ROW >= 0)
    np.testing.assert_array_equal(of.of(cells).toarray(), WHOLE[cells])


def test_a_sample_keeps_which_cells_have_the_modality_and_columns_become_rows(counts):
    sample = Counts(counts, ROW).sample(np.array([0, 1, 3, 5]))
    np.testing.assert_array_equal(sample.is_present, [True, False, True, True])
    np.testing.assert_array_equal(sample.of(slice(0, 4)).toarray(), WHOLE[[0, 1, 3, 5]])
    again = sample.sample(np.array([1, 2]))
    np.testing.assert_array_equal(again.of(np.arange(2)).toarray(), WHOLE[[1, 3]])
    found = raw_counts(AnnData(counts), None)
    assert getattr(found, "format", "dense") in ("csr", "dense")
    rows = found[2:4]
    np.testing.assert_array_equal(rows.toarray() if sparse.issparse(rows) else rows, X[2:4])


def test_cells_of_a_mudata_are_found_by_barcode():
    barcodes = pd.DataFrame(index=list("abcdef"))
    everyone = AnnData(np.ones((6, 2), np.float32), barcodes)
    some = AnnData(X.copy(), barcodes.iloc[[2, 5, 0, 3]])
    mdata = MuData({"rna": everyone, "adt": some})
    sources = {"rna": Source("rna", None), "adt": Source("adt", None)}
    found = read_cells(mdata, sources, []).counts
    by_name = dict(zip(some.obs_names, X, strict=True))
    for i, name in enumerate(mdata.obs_names):
        expected = by_name.get(name, np.zeros(3))
        np.testing.assert_array_equal(found["adt"].of(slice(i, i + 1)).toarray()[0], expected)
    assert found["rna"].is_present.all()


def test_conditions_are_positions_among_the_known_categories():
    adata = AnnData(X.copy(), obs=pd.DataFrame({"lane": [3, 1, 3, 1], "day": list("abca")}))
    known = [Condition("day", ["c", "b", "a"], None), Condition("lane", [1, 2, 3], None)]
    found = read_cells(adata, {"rna": Source(None, None)}, known)
    np.testing.assert_array_equal(found.conditions, [[2, 2], [1, 0], [0, 2], [2, 0]])
    some = found.sample(np.array([1, 2]))
    np.testing.assert_array_equal(some.conditions, [[1, 0], [0, 2]])
    assert list(some.names) == list(adata.obs_names[1:3])
    np.testing.assert_array_equal(some.counts["rna"].everything.toarray(), X[1:3])
