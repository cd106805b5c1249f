"""Cells on disk, lazy or in pieces give the results of the same cells in memory."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata import AnnData
from mudata import MuData
from scipy import sparse

import scmetaq
from scmetaq import COEM, MetaQModel, SCPoli, metrics, tl
from scmetaq.data import _containers
from scmetaq.data._containers import Placed, Rows, check_readable, in_memory, readable

SETUP = {"batch_key": "batch", "labels_key": "state"}


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch):
    """As if the cells were many."""
    monkeypatch.setattr(_containers, "_AHEAD", 40)
    monkeypatch.setattr(_containers, "_FEW", 10)


@pytest.fixture(scope="module")
def cells(_toy):
    adata = _toy.copy()
    adata.obs["batch"] = pd.Categorical(np.array(["x", "y"])[np.arange(150) % 2])
    adata.obsm["X_pca"] = np.asarray(adata.X[:, :5].todense())
    adata.varm["loadings"] = np.arange(120.0).reshape(60, 2)
    adata.layers["raw"] = adata.X.copy()
    return adata


def lazily(path):
    pytest.importorskip("dask")
    pytest.importorskip("xarray")
    return anndata.experimental.read_lazy(path)


def h5ad(adata, folder, name="cells.h5ad"):
    adata.write_h5ad(folder / name)
    return folder / name


def store(adata, folder, name="cells.zarr", **kwargs):
    adata.write_zarr(folder / name, **kwargs)
    return folder / name


def dask_of(X, chunks, across=60):
    """A dask array of pieces of a matrix."""
    da = pytest.importorskip("dask.array")
    ends = np.cumsum([0, *chunks])
    meta = X[:0]

    def piece(block_info=None):
        rows, columns = block_info[None]["array-location"]
        return X[slice(*rows), slice(*columns)]

    n = X.shape[1]
    return da.map_blocks(
        piece, chunks=(tuple(np.diff(ends)), (across,) * (n // across)), dtype=X.dtype, meta=meta
    )


def shared(adata, X, layers=None):
    return AnnData(
        X,
        adata.obs.copy(),
        adata.var.copy(),
        obsm=dict(adata.obsm),
        varm=dict(adata.varm),
        layers=layers,
    )


def in_pieces(adata, folder):
    parts = [adata[:61].copy(), adata[61:].copy()]
    paths = [h5ad(parts[0], folder), store(parts[1], folder)]
    return anndata.concat([lazily(path) for path in paths], merge="same")


CONTAINERS = {
    "backed": lambda a, f: anndata.read_h5ad(h5ad(a, f), backed="r"),
    "backed dense": lambda a, f: anndata.read_h5ad(h5ad(shared(a, a.X.toarray()), f), backed="r"),
    "lazy h5ad": lambda a, f: lazily(h5ad(a, f)),
    "lazy zarr": lambda a, f: lazily(store(a, f)),
    "lazy columns": lambda a, f: lazily(store(shared(a, a.X.tocsc()), f)),
    "lazy pieces": in_pieces,
    "dask sparse": lambda a, f: shared(a, dask_of(a.X, (70, 80))),
    "dask dense grid": lambda a, f: shared(a, dask_of(a.X.toarray(), (30, 30, 90), across=20)),
    "sparse_dataset": lambda a, f: shared(
        a, anndata.io.sparse_dataset(zarr.open(store(a, f), mode="r")["X"])
    ),
    "dense zarr": lambda a, f: shared(a, zarr.array(a.X.toarray(), chunks=(32, 60))),
}


@pytest.fixture(params=CONTAINERS)
def held(request, cells, tmp_path):
    return CONTAINERS[request.param](cells, tmp_path)


def state_of(adata):
    """What must stay as it is."""
    obs = adata.obs if isinstance(adata.obs, pd.DataFrame) else adata.obs.to_memory()
    kept = obs[[c for c in obs if not str(c).startswith("_scvi")]]
    return type(adata.X), type(adata.obs), kept, {k for k in adata.uns if "scvi" not in k}


def same(a, b):
    """Equal to the bit; text that is written, or concatenated lazily, changes to or from names."""
    a, b = (f.astype({c: object for c in f if f[c].dtype.kind == "O"}) for f in (a, b))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def same_metacells(found, expected):
    assert (found.X != expected.X).nnz == 0
    same(found.obs, expected.obs)
    same(found.var, expected.var)
    assert list(found.varm) == list(expected.varm)


@pytest.fixture(scope="module")
def in_memory_model(cells, fit):
    return fit(cells.copy(), setup=SETUP)


def test_models_of_cells_anywhere_equal_those_in_memory(held, in_memory_model, fit):
    known, before = in_memory_model, state_of(held)
    model = fit(held, setup=SETUP)
    assert model.adata is held
    expected = known.get_assignments()
    same(model.get_assignments(), expected)
    same(known.get_assignments(held, n_metacells=4), known.get_assignments(n_metacells=4))
    same(model.predict_labels(), known.predict_labels())
    assert model.get_quantization_report() == known.get_quantization_report()
    same_metacells(model.get_metacells(within="batch"), known.get_metacells(within="batch"))
    same_metacells(
        tl.aggregate(held, expected["metacell"]), tl.aggregate(known.adata, expected["metacell"])
    )
    options = {"labels": "state", "conditions": "batch", "use_rep": "X_pca"}
    same(*(metrics.evaluate(of, expected["metacell"], **options) for of in (held, known.adata)))
    for one, other in zip(before, state_of(held), strict=True):
        assert one.equals(other) if isinstance(one, pd.DataFrame) else one == other
