import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from scmetaq.metrics import _log_counts
from scmetaq.metrics._log_counts import LogCounts, log_normalise

FORMS = pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_array])


@pytest.fixture
def counts(rng):
    return rng.poisson(rng.gamma(0.5, 1.0, size=40), size=(90, 40)).astype(float)


class OnDisk:
    """A matrix that is read from the first row to the last, once, some rows at a time."""

    def __init__(self, matrix, most=90):
        self.matrix, self.shape, self.most, self.read = matrix, matrix.shape, most, 0

    def __getitem__(self, rows):
        assert rows.start == self.read
        assert rows.stop - rows.start <= self.most
        self.read = rows.stop
        return sparse.csr_matrix(self.matrix[rows])


@FORMS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normalised_counts_are_those_of_scanpy(counts, dtype, form):
    counts[2] = 0
    cells = AnnData(counts.copy())
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    given = form(counts)
    found = log_normalise(given, dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.toarray(), cells.X, rtol=1e-5)
    np.testing.assert_array_equal(given if form is np.asarray else given.toarray(), counts)


@FORMS
def test_rows_in_memory_are_read_in_any_order(counts, rng, form):
    X, rows = LogCounts(form(counts), np.zeros(90, int)), rng.permutation(90)[:50]
    np.testing.assert_array_equal(X[rows].toarray(), log_normalise(counts).toarray()[rows])


@pytest.mark.parametrize("n_genes", [40, 70_000])
@pytest.mark.parametrize("gap", [0, 8])
@pytest.mark.parametrize("in_memory", [1, 1 << 27])
def test_rows_on_disk_are_read_once_and_then_in_any_order(
    counts, rng, monkeypatch, n_genes, gap, in_memory
):
    monkeypatch.setattr(_log_counts, "BLOCK", 11)
    monkeypatch.setattr(_log_counts, "_GAP", gap)
    monkeypatch.setattr(_log_counts, "_IN_MEMORY", in_memory)
    wide = np.zeros((90, n_genes))
    wide[:, -40:] = counts
    wide[5] = 0
    on_disk = OnDisk(wide, most=11)
    X = LogCounts(on_disk, rng.integers(-1, 4, 90))
    assert on_disk.read == 90
    expected = log_normalise(wide).toarray()
    for rows in (rng.permutation(90), np.array([7]), np.array([80, 3, 4]), slice(20, 60)):
        np.testing.assert_array_equal(X[rows].toarray(), expected[rows])


@pytest.mark.parametrize("n_top", [1, 15, 39, 40, 60])
def test_most_variable_genes_are_those_of_scanpy(counts, n_top, monkeypatch):
    monkeypatch.setattr(_log_counts, "BLOCK", 13)
    counts[:, 3] = 0
    kept = np.flatnonzero(np.arange(90) % 4)
    cells = AnnData(log_normalise(counts[kept]), uns={"log1p": {}})
    expected = np.ones(40, bool)
    if n_top < 40:
        genes = sc.pp.highly_variable_genes(cells, n_top_genes=n_top, inplace=False)
        expected = genes["highly_variable"].to_numpy()
    whole = log_normalise(counts).toarray()
    for matrix in (sparse.csr_matrix(counts), OnDisk(counts)):
        X = LogCounts(matrix, np.zeros(90, int)).most_variable(n_top, kept)
        assert X.shape == (90, expected.sum())
        np.testing.assert_array_equal(X[:].toarray(), whole[:, expected])


def test_genes_that_are_all_constant_are_all_kept():
    X = LogCounts(np.ones((5, 4)), np.zeros(5, int)).most_variable(2)
    assert X.shape == (5, 4)


def test_raw_counts_and_totals_are_those_given_from_memory_and_from_a_file(counts, rng):
    counts[3], counts[4, 5] = 0, 12_345
    rows = rng.permutation(90)[:50]
    for X in (
        LogCounts(counts, np.zeros(90, int)),
        LogCounts(OnDisk(counts, 90), np.arange(90) % 7),
    ):
        np.testing.assert_array_equal(X.raw(rows).toarray(), counts[rows])
        np.testing.assert_allclose(X.totals, counts.sum(axis=1))
        some = X.of_genes(np.arange(5, 30)).of_genes(np.array([0, 3]))
        np.testing.assert_array_equal(some.raw(rows).toarray(), counts[rows][:, [5, 8]])
