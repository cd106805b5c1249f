"""Layers of metacells that are computed from counts, against plain numpy."""

import anndata
import numpy as np
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from scmetaq.tl import aggregate

NAMES = ["log1p_mean", "geometric_fraction"]


@pytest.fixture(scope="module")
def cells():
    """80 cells x 30 genes in five groups, one cell in none, one gene without counts."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 4, 30) * rng.gamma(3, 0.5, (80, 1))).astype(np.float32)
    counts[:, 7], counts[:, 0] = 0, counts[:, 0] + 1
    adata = AnnData(sparse.csr_matrix(counts))
    adata.obs["metacell"] = np.arange(80) % 5 - (np.arange(80) == 79)
    adata.obs.loc["79", "metacell"] = -1
    return adata


def log1p_mean(x):
    return np.log1p(x / x.sum(1, keepdims=True) * 1e4).mean(0)


def geometric_fraction(x):
    """Steps 1 to 5 of the documentation of metacells 2."""
    size = x.sum(1, keepdims=True)
    regularization = 1 / 16 / size
    log_fraction = np.log2(x / size + regularization)
    weight = np.log2(size)
    mean = 2 ** ((log_fraction * weight).sum(0) / weight.sum())
    fraction = np.maximum(mean - np.exp(np.log(regularization).mean()), 0)
    fraction[x.sum(0) == 0] = 0
    return fraction / fraction.sum()


def expected(adata, function, layer=None):
    X = adata.X.toarray() if layer is None else adata.layers[layer].toarray()
    group = adata.obs["metacell"].to_numpy()
    return np.stack([function(X[group == k].astype(float)) for k in range(group.max() + 1)])


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_those_of_their_equation(cells, name):
    found = aggregate(cells, layers=NAMES)
    assert set(found.layers) - {None} == {"counts", *NAMES}
    layer = found.layers[name]
    assert sparse.isspmatrix_csr(layer)
    assert layer.dtype == np.float32
    np.testing.assert_allclose(layer.toarray(), expected(cells, globals()[name]), rtol=1e-5)
    assert not layer[:, 7].nnz
    plain = aggregate(cells)
    assert set(plain.layers) - {None} == {"counts"}
    assert abs(plain.X - found.X).max() == 0


def test_fractions_sum_to_one_and_one_cell_with_many_counts_moves_them_less(cells):
    found = aggregate(cells, layers=NAMES)
    np.testing.assert_allclose(found.layers["geometric_fraction"].sum(1), 1, rtol=1e-5)
    other = cells.copy()
    X = other.X.toarray()
    X[5, 3] += 500
    other.X = sparse.csr_matrix(X)
    moved = aggregate(other, layers=NAMES)
    of_sums = [of.layers["counts"].toarray()[0] for of in (found, moved)]
    of_means = [of.layers["geometric_fraction"].toarray()[0] for of in (found, moved)]
    ratio = [after[3] / before[3] for before, after in (of_means, (s / s.sum() for s in of_sums))]
    assert 1 < ratio[0] < 0.3 * ratio[1]


def test_blocks_containers_and_layers_make_no_difference(cells, monkeypatch, tmp_path):
    da = pytest.importorskip("dask.array")
    whole = aggregate(cells, layers=NAMES)
    monkeypatch.setattr("scmetaq.tl._summarize._BLOCK", 7)
    monkeypatch.setattr("scmetaq.tl._summarize.sum_rows.__defaults__", (16,))
    lazy = cells.copy()
    lazy.X = da.from_array(cells.X.toarray(), chunks=(9, 30)).map_blocks(sparse.csr_matrix)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    dense, in_layer = cells.copy(), cells.copy()
    dense.X = cells.X.toarray()
    in_layer.layers["raw"], in_layer.X = cells.X, cells.X * 0
    for adata, layer in (
        (cells, None),
        (backed, None),
        (lazy, None),
        (dense, None),
        (in_layer, "raw"),
    ):
        found = aggregate(adata, layer=layer, layers=NAMES)
        for name in NAMES:
            assert abs(found.layers[name] - whole.layers[name]).max() < 1e-6


def test_cells_without_counts_and_a_layer_of_the_name_do_not_matter(cells):
    adata = cells.copy()
    X = adata.X.toarray()
    X[10], X[15] = 0, 0
    X[15, 3] = 1  # has no weight in a geometric mean
    adata.X = sparse.csr_matrix(X)
    adata.layers["log1p_mean"] = adata.X * 2
    found = aggregate(adata, layers=NAMES)
    group = adata.obs["metacell"].to_numpy() == 0
    with np.errstate(all="ignore"):
        logs = np.nan_to_num(np.log1p(X / X.sum(1, keepdims=True) * 1e4))[group].mean(0)
    np.testing.assert_allclose(found.layers["log1p_mean"].toarray()[0], logs, rtol=1e-5)
    fraction = found.layers["geometric_fraction"].toarray()
    assert np.isfinite(fraction).all()
    np.testing.assert_allclose(fraction.sum(1), 1, rtol=1e-5)
    alone = aggregate(adata, np.where(np.arange(80) == 15, "one count", "others"), layers=NAMES)
    assert np.isfinite(alone.layers["geometric_fraction"].toarray()).all()


def test_modalities_have_layers_of_their_own_counts(cells):
    other = cells[20:, ::-1].copy()
    other.var_names = [f"p{i}" for i in range(30)]
    mdata = MuData({"rna": cells.copy(), "adt": other})
    mdata.obs["metacell"] = cells.obs["metacell"]
    found = aggregate(mdata, layers=["geometric_fraction"])
    for kind, part in (("rna", cells), ("adt", other)):
        layer = found[kind].layers["geometric_fraction"].toarray()
        np.testing.assert_allclose(layer, expected(part, geometric_fraction), rtol=1e-5)
