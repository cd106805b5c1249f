"""Cells on disk, lazy or in pieces give the results of the same cells in memory."""

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scvi
import zarr
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from scmetaq import COEM, MetaQModel, SCPoli, metrics, tl
from scmetaq.data import _containers
from scmetaq.data._containers import Placed, Rows, check_readable, in_memory, readable

TRAINER = {"accelerator": "cpu", "enable_progress_bar": False}
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


@pytest.mark.parametrize("kind", ["backed", "lazy zarr", "lazy pieces", "sparse_dataset"])
@pytest.mark.parametrize("known", ["in_memory_model", "scpoli"])
def test_queries_anywhere_are_mapped_as_those_in_memory(kind, known, request, cells, tmp_path):
    reference = request.getfixturevalue(known)
    query = cells[::2, ::-1][:, :50].copy()  # nor in the order of the model, nor all features
    query.obs["batch"] = pd.Categorical(np.array(["y", "z"])[np.arange(75) % 2])
    at = CONTAINERS[kind](query, tmp_path)
    before = state_of(at)
    found = []
    for of in (query.copy(), at):
        scvi.settings.seed = 0
        model = type(reference).load_query_data(of, reference)
        model.train(max_epochs=2, **TRAINER)
        found.append((pd.DataFrame(model.get_latent_representation()), model.predict_labels()))
        if known == "in_memory_model":
            found[-1] += (model.get_assignments(), model.get_assignments(of))
            metacells = model.get_metacells()
            found[-1] += (pd.DataFrame(metacells.X.toarray()), metacells.obs)
    for expected, other in zip(*found, strict=True):
        same(other, expected)
    assert state_of(at)[:2] == before[:2]


@pytest.fixture(scope="module")
def scpoli(cells, fit_as):
    return fit_as(SCPoli, cells.copy(), setup=SETUP)


@pytest.mark.parametrize("kind", ["backed dense", "lazy pieces"])
def test_other_models_and_the_published_recipe_read_cells_anywhere(
    kind, scpoli, cells, tmp_path, fit_as
):
    at = CONTAINERS[kind](cells, tmp_path)
    found = fit_as(SCPoli, at, setup=SETUP).get_latent_representation()
    np.testing.assert_array_equal(found, scpoli.get_latent_representation())
    models = [fit_as(MetaQModel, of, 6, recipe="published") for of in (cells.copy(), at)]
    same(*(model.get_assignments() for model in models))


def test_models_saved_with_or_without_cells_are_loaded_for_cells_on_disk(
    in_memory_model, cells, tmp_path
):
    in_memory_model.save(tmp_path / "model")
    at = lazily(store(cells[:, ::-1].copy(), tmp_path))
    expected = in_memory_model.get_assignments()
    for given in (at, False):
        model = MetaQModel.load(tmp_path / "model", given)
        same(model.get_assignments(at), expected)


def modalities_anywhere(mdata, folder):
    """RNA in pieces of dask, ADT as a sparse dataset in a layer, ATAC read lazily."""
    rna, adt, atac = (mdata[name].copy() for name in ("rna", "adt", "atac"))
    rna.X = dask_of(rna.X, (100, 50))
    group = zarr.open(store(adt, folder, "adt.zarr"), mode="r")["X"]
    adt.X, adt.layers["raw"] = None, anndata.io.sparse_dataset(group)
    atac = lazily(h5ad(atac, folder))
    atac.obs, atac.var = atac.obs.to_memory(), atac.var.to_memory()
    found = MuData({"rna": rna, "adt": adt, "atac": atac})
    found.obs["state"] = mdata.obs["state"]
    return found


def test_modalities_of_any_container_and_cells_that_lack_some(mosaic, fit_as, tmp_path):
    setup = {"labels_key": "state"}
    known = fit_as(MetaQModel, mosaic.copy(), 6, setup=setup)
    at = modalities_anywhere(mosaic, tmp_path)
    model = fit_as(MetaQModel, at, 6, setup={**setup, "adt_layer": "raw"})
    same(model.get_assignments(), known.get_assignments())
    same(model.predict_labels(), known.predict_labels())
    found, expected = model.get_metacells(), known.get_metacells()
    for name in ("rna", "adt", "atac"):
        assert (found[name].X != expected[name].X).nnz == 0
    assignment = known.get_assignments()["metacell"]
    same(metrics.evaluate(at, assignment, layer="raw"), metrics.evaluate(mosaic, assignment))
    # another order of modalities, cells and features
    parts = {name: at[name] for name in ("atac", "rna")}
    other = MuData(parts)
    other.obs["state"] = mosaic.obs["state"]
    query = MetaQModel.load_query_data(other, model)
    at_once = MuData({name: mosaic[name].copy() for name in ("atac", "rna")})
    at_once.obs["state"] = mosaic.obs["state"]
    expected = MetaQModel.load_query_data(at_once, known)
    same(query.get_assignments(), expected.get_assignments())


def test_backed_mudata_and_coem(paired, fit_as, tmp_path):
    mdata = MuData({name: paired[name].copy() for name in ("rna", "atac")})
    mdata.write_h5mu(tmp_path / "cells.h5mu")
    backed = mudata.read_h5mu(tmp_path / "cells.h5mu", backed="r")
    models = [fit_as(COEM, of, n_components=4) for of in (mdata, backed)]
    same(*(model.get_assignments(n_metacells=5, n_neighbors=5) for model in models))
    found, expected = (m.get_metacells(n_metacells=5, n_neighbors=5) for m in models)
    assert (found["atac"].X != expected["atac"].X).nnz == 0


@pytest.fixture(params=["csr", "dense", "backed", "dask", "uneven dask", "sharded", "placed"])
def matrix(request, cells, tmp_path):
    """A matrix somewhere, and the same in memory."""
    X, adata = cells.X, AnnData(cells.X)
    dense = X.toarray()
    if request.param == "dense":
        return zarr.array(dense, chunks=(7, 20)), dense
    if request.param == "backed":
        return anndata.read_h5ad(h5ad(adata, tmp_path), backed="r").X, dense
    if request.param == "dask":
        return dask_of(X, (50, 50, 50), across=30), dense
    if request.param == "uneven dask":
        return dask_of(dense, (1, 0, 120, 29)), dense
    if request.param in ("sharded", "placed"):
        with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=True):
            group = zarr.open(store(adata, tmp_path), mode="r")["X"]
        sharded = anndata.io.sparse_dataset(group)
        columns, is_there = np.array([5, 3, 9]), np.array([True, False, True, True])
        if request.param == "sharded":
            return sharded, dense
        expected = np.zeros((150, 4), np.float32)
        expected[:, is_there] = dense[:, columns]
        return Placed(sharded, columns, is_there), expected
    return X, dense


def as_dense(rows):
    return rows.toarray() if sparse.issparse(rows) else rows


def test_rows_of_any_matrix_are_found_in_any_order(matrix, rng):
    matrix, expected = matrix
    rows = Rows(matrix)
    for wanted in [
        slice(None),
        slice(3, 3),
        *(slice(i, i + 16) for i in range(0, 150, 16)),
        slice(149, 150),
        slice(10, 130),
        slice(20, 25),
        np.array([], int),
        np.array([0, 149]),
        np.arange(40, 90),
        *(np.sort(rng.choice(150, n, replace=False)) for n in (3, 30, 100)),
        np.array([9, 3, 3, 140]),
    ]:
        np.testing.assert_array_equal(as_dense(rows[wanted]), expected[wanted])
    np.testing.assert_array_equal(as_dense(in_memory(matrix)), expected)


@pytest.mark.parametrize("dtype", ["f2", ">f4", ">f8", ">i2", ">i8", ">u4"])
@pytest.mark.parametrize("where", ["memory", "backed", "dask", "zarr"])
def test_numbers_that_scipy_does_not_know_are_read_like_others(
    cells, in_memory_model, tmp_path, dtype, where
):
    odd = cells.copy()
    odd.X = cells.X.toarray().astype(dtype)
    if where == "backed":
        odd = anndata.read_h5ad(h5ad(odd, tmp_path), backed="r")
    elif where == "zarr":
        odd.X = zarr.array(odd.X, chunks=(7, 20))
    elif where == "dask":
        odd.X = dask_of(odd.X, (50, 50, 50), across=30)
    same(in_memory_model.get_assignments(odd), in_memory_model.get_assignments())
    found = in_memory_model.get_metacells(odd).layers["counts"]
    expected = in_memory_model.get_metacells().layers["counts"]
    np.testing.assert_array_equal(found.toarray(), expected.toarray())
    summed = tl.aggregate(odd, np.arange(150) % 7).layers["counts"]
    np.testing.assert_array_equal(summed[3].toarray()[0], cells.X[3::7].toarray().sum(0))
    if where == "memory":
        query = MetaQModel.load_query_data(odd[:, ::-1].copy(), in_memory_model)
        same(query.get_assignments(), in_memory_model.get_assignments())


@pytest.mark.parametrize("size", [7, 16, 64])
def test_a_pass_over_all_rows_computes_each_chunk_once(cells, size):
    da, read = pytest.importorskip("dask.array"), []

    def piece(block_info=None):
        first, last = block_info[None]["array-location"][0]
        read.append(first)
        return cells.X[first:last]

    X = da.map_blocks(piece, chunks=((25,) * 6, (60,)), dtype=np.float32, meta=cells.X[:0])
    read.clear()
    blocks = [block for span in Rows(X).spans(2 * size) for block in span.blocks(size)]
    assert (sparse.vstack(blocks) != cells.X).nnz == 0
    assert sorted(read) == list(range(0, 150, 25))


def test_matrices_that_cannot_be_read_by_cells_are_refused(cells, tmp_path, fit):
    by_columns = cells.copy()
    by_columns.X = by_columns.X.tocsc()
    backed = anndata.read_h5ad(h5ad(by_columns, tmp_path), backed="r")
    text = r"Expected adata\.X stored or chunked by cells \(CSR\), found it by features.*to_memory"
    for at in (backed, shared(cells, dask_of(cells.X.tocsc(), (150,), across=20))):
        with pytest.raises(ValueError, match=text):
            fit(at)
    with pytest.raises(ValueError, match="by features"):
        tl.aggregate(backed, "state")
    with pytest.raises(TypeError, match=r"Expected adata\.X as a numpy array.*found list"):
        check_readable([], "adata.X")


def test_tables_without_names_and_views_are_refused(cells, tmp_path, fit):
    path = store(cells, tmp_path)
    pytest.importorskip("dask")
    pytest.importorskip("xarray")
    at = anndata.experimental.read_lazy(path, load_annotation_index=False)
    with pytest.raises(ValueError, match="names of cells in memory.*load_annotation_index=False"):
        fit(at)
    with pytest.raises(ValueError, match="copy"):
        fit(lazily(path)[:100])


def test_cells_in_memory_are_left_alone(cells, in_memory_model, tmp_path):
    assert readable(cells) is cells
    assert in_memory(cells.X) is cells.X
    view = lazily(store(cells, tmp_path))[20:90]
    same(in_memory_model.get_assignments(view), in_memory_model.get_assignments().iloc[20:90])


def test_parts_of_a_backed_file_are_read_and_lazy_cells_are_not_saved(
    cells, in_memory_model, fit, tmp_path
):
    backed = anndata.read_h5ad(h5ad(cells, tmp_path), backed="r")
    expected = in_memory_model.get_assignments().iloc[20:90]
    same(in_memory_model.get_assignments(backed[20:90]), expected)
    with pytest.raises(ValueError, match=r"found a view of others in adata.*adata\.to_memory\(\)"):
        fit(backed[20:90])
    with pytest.raises(ValueError, match=r"found lazy ones.*load\(dir_path, adata\)"):
        fit(lazily(store(cells, tmp_path)), setup=SETUP).save(tmp_path / "m", save_anndata=True)
    assert not (tmp_path / "m").exists()
    collection = anndata.experimental.AnnCollection([cells, cells.copy()], index_unique="-")
    with pytest.raises(TypeError, match=r"found AnnCollection\. Use adata = anndata\.concat"):
        fit(collection)
    cells = cells.copy()
    cells.X = cells.X.toarray().astype(str)
    with pytest.raises(TypeError, match=r"real numbers in adata\.X, found values of the type"):
        fit(cells)
