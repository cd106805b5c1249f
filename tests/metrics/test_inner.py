import numpy as np
import pandas as pd
import pytest
import zarr
from anndata import AnnData, read_h5ad
from scipy import sparse

from scmetaq.metrics import _inner, inner_fold, inner_stdev

METRICS = pytest.mark.parametrize("metric", [inner_fold, inner_stdev])


@pytest.fixture
def counts(rng):
    """90 cells x 50 genes, of which a third are too rare to be judged in small metacells."""
    rate = np.concatenate([rng.gamma(1, 3, 35), np.full(15, 0.2)])
    return rng.poisson(rate * rng.uniform(0.5, 2, (90, 1))).astype(np.float32)


def of_metacells_2(counts, assignment, least=40):
    """The definitions of Metacells 2, gene by gene and cell by cell."""
    folds, stdevs = {}, {}
    for metacell in np.unique(assignment):
        cells = counts[assignment == metacell].astype(float)
        total = cells.sum(axis=0)
        genes = np.flatnonzero(total >= least)
        worst = []
        for gene in genes:
            expected = cells.sum(axis=1) * total[gene] / total.sum()
            worst.append(max(abs(np.log2(cells[:, gene] + 1) - np.log2(expected + 1))))
        shares = cells[:, genes] + 1
        shares = np.log2(shares / shares.sum(axis=1, keepdims=True))
        folds[metacell] = np.quantile(worst, 0.95) if len(genes) else np.nan
        several = len(genes) > 0 and len(cells) > 1
        stdevs[metacell] = shares.std(axis=0, ddof=0).mean() if several else np.nan
    return pd.Series(folds), pd.Series(stdevs)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_array, pd.DataFrame])
def test_they_follow_the_definitions_of_metacells_2(counts, assignment, form):
    fold, stdev = of_metacells_2(counts, assignment)
    assert fold.notna().all()
    np.testing.assert_allclose(inner_fold(form(counts), assignment), fold, rtol=1e-5)
    np.testing.assert_allclose(inner_stdev(form(counts), assignment), stdev, rtol=1e-5)
    few, _ = of_metacells_2(counts, assignment, least=5)
    np.testing.assert_allclose(inner_fold(form(counts), assignment, min_counts=5), few, rtol=1e-5)
    assert (few != fold).any()


@METRICS
def test_counts_on_disk_give_the_same_and_unassigned_cells_are_left_out(
    counts, assignment, metric, tmp_path
):
    da = pytest.importorskip("dask.array")
    AnnData(sparse.csr_matrix(counts)).write_h5ad(tmp_path / "cells.h5ad")
    on_disk = read_h5ad(tmp_path / "cells.h5ad", backed="r")
    zarr.save_array(tmp_path / "counts.zarr", counts)
    for given in (
        on_disk.X,
        zarr.open_array(tmp_path / "counts.zarr"),
        da.from_array(counts, chunks=(20, 50)),
    ):
        found = metric(given, assignment)
        np.testing.assert_allclose(found, metric(counts, assignment), rtol=1e-5)
    some = np.where(assignment == 1, -1, assignment)
    assert 1 not in metric(counts, some).index
    pd.testing.assert_series_equal(metric(counts, some), metric(counts, assignment).drop(1))


@METRICS
def test_two_states_in_one_metacell_are_worse_than_one(rng, metric):
    state = np.repeat([0, 1], 100)
    X = rng.poisson(rng.gamma(1, 8, size=(2, 60))[state])
    apart, mixed = state * 2 + np.tile([0, 1], 100), np.tile(np.repeat([0, 1, 2, 3], 2), 25)
    assert metric(X, apart).mean() < 0.9 * metric(X, mixed).mean()


@METRICS
def test_metacells_without_enough_counts_and_of_one_cell_have_no_value(counts, metric):
    found = metric(counts, [0] * 60 + [1] * 29 + [2])
    assert found.notna().tolist() == [True, True, False]
    assert metric(counts, np.arange(90) % 9, min_counts=10**6).isna().all()
    with pytest.raises(ValueError, match="90 rows"):
        metric(counts, [0] * 80)
    with pytest.raises(ValueError, match="found 1 values that are negative"):
        metric(np.where(np.arange(counts.size).reshape(counts.shape) == 7, -1, counts), [0] * 90)


@METRICS
def test_cells_of_a_large_metacell_stand_for_all_of_it(counts, metric, monkeypatch):
    all_cells = metric(np.tile(counts, (4, 1)), [0] * 360)
    monkeypatch.setattr(_inner, "BLOCK", 90)
    found = metric(np.repeat(counts, 4, axis=0), [0] * 360)  # every fourth: each cell once
    np.testing.assert_allclose(found, all_cells, rtol=1e-5)
