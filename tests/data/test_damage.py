"""Damaged and hostile files and matrices are refused before they do harm."""

import json
import time

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from anndata import AnnData, read_h5ad

from scmetaq import MetaQModel
from scmetaq.data import _damage, read_files
from scmetaq.data._containers import Rows
from scmetaq.tl import aggregate


@pytest.fixture
def path(toy, tmp_path):
    toy.write_h5ad(tmp_path / "toy.h5ad")
    return tmp_path / "toy.h5ad"


@pytest.fixture
def store(toy, tmp_path):
    toy.write_zarr(tmp_path / "toy.zarr")
    return tmp_path / "toy.zarr"


def outside(indices, indptr):
    indices[500] = 10**8


def below(indices, indptr):
    indices[500] = -1


def falling(indices, indptr):
    indptr[7] = indptr[3]


def late(indices, indptr):
    indptr[0] = 3


def far(indices, indptr):
    indptr[7] = 10**8


@pytest.mark.parametrize("form", ["csr", "csc", "backed", "file"])
@pytest.mark.parametrize("spoil", [outside, below, falling, late, far])
def test_matrices_that_point_outside_themselves_are_refused(toy, path, spoil, form):
    """scipy reads and writes outside of its memory, and Python crashes."""
    X = toy.X.tocsc() if form == "csc" else toy.X.copy()
    spoil(X.indices, X.indptr)
    if form in ("backed", "file"):
        with h5py.File(path, "a") as file:
            file["X/indices"][...], file["X/indptr"][...] = X.indices, X.indptr
        toy = read_h5ad(path, backed="r") if form == "backed" else read_files(path)
    else:
        toy.X = X
    for use in (MetaQModel.setup_anndata, lambda data: aggregate(data, "state")):
        with pytest.raises(ValueError, match=r"of a sparse matrix .*found .*damaged"):
            use(toy)


def test_pointers_that_leave_out_stored_values_are_refused(path):
    with h5py.File(path, "a") as file:
        file["X/indptr"][-1] -= 3
    with pytest.raises(ValueError, match="pointers of a sparse matrix that rise from 0 to"):
        Rows(read_h5ad(path, backed="r").X)[:]


def test_checks_of_indices_take_little_of_the_time_of_blocks():
    counts = Rows(sp.random(20_000, 2_000, 0.05, format="csr", random_state=0))
    block, seconds = counts[:], []
    for use in (_damage.checked, lambda of: sp.csr_matrix(of, dtype=np.float32, copy=True)):
        started = time.perf_counter()
        for _ in range(10):
            use(block)
        seconds.append(time.perf_counter() - started)
    assert seconds[0] < seconds[1]


def declare(group, kind):
    """A dense matrix of a terabyte of which nothing is stored."""
    shape = (1_000_000, 250_000)
    del group["X"]
    if kind == "zarr":
        X = group.create_array("X", shape=shape, dtype="f4", chunks=(1000, 250))
    else:
        X = group.create_dataset("X", shape, "f4", chunks=(1000, 250))
    X.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def test_a_small_file_that_declares_a_terabyte_is_refused(path, store):
    with h5py.File(path, "a") as file:
        declare(file, "h5ad")
    declare(zarr.open_group(store, mode="a", use_consolidated=False), "zarr")
    zarr.consolidate_metadata(store)
    for file in (path, store):
        with pytest.raises(ValueError, match=r"X declares 1,000,000,000,000 bytes and holds \d"):
            read_files(file)


def test_a_sparse_matrix_that_declares_another_size_is_refused(path, store):
    with h5py.File(path, "a") as file:
        file["X"].attrs["shape"] = np.array([10**12, 60])
    group = zarr.open_group(store, mode="a", use_consolidated=False)
    group["X"].attrs["shape"] = [10**12, 60]
    zarr.consolidate_metadata(store)
    for file in (path, store):
        with pytest.raises(ValueError, match=r"X declares 1000000000000 x 60, has 150\)"):
            read_files(file)


def test_large_chunks_of_a_small_array_are_refused(store):
    group = zarr.open_group(store, mode="a", use_consolidated=False)
    group["uns"].create_array("odd", shape=(10,), dtype="f8", chunks=(10**12,))
    zarr.consolidate_metadata(store)
    with pytest.raises(ValueError, match="odd declares 8,000,000,000,000 bytes"):
        read_files(store)


def test_a_store_with_pickled_objects_is_refused(tmp_path):
    """zarr knows no such objects."""
    store = tmp_path / "old.zarr"
    zarr.open_group(store, mode="w", zarr_format=2).create_array("X", shape=(3,), dtype="i4")
    about = store / "X" / ".zarray"
    filters = {"filters": [{"id": "pickle", "protocol": 5}]}
    about.write_text(json.dumps(json.loads(about.read_text()) | filters))
    with pytest.raises(ValueError, match="cannot be read as AnnData .*pickle"):
        read_files(store)


def test_links_to_other_files_and_to_themselves_are_refused(path, toy, tmp_path):
    with h5py.File(path, "a") as file:
        file["uns/other"] = h5py.ExternalLink("elsewhere.h5", "/")
    with pytest.raises(ValueError, match="uns/other is a link to another file"):
        read_files(path)
    toy.write_h5ad(tmp_path / "second.h5ad")
    with h5py.File(tmp_path / "second.h5ad", "a") as file:
        file["uns/itself"] = file["/"]
    with pytest.raises(ValueError, match="holds itself"):
        read_files(tmp_path / "second.h5ad")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("while True: pass", "HDF5 found no end within 1 s"),
        ("import os; os.abort()", "HDF5 crashes on it"),
    ],
)
def test_files_on_which_the_library_hangs_or_crashes_are_refused(
    path, tmp_path, monkeypatch, code, words
):
    (tmp_path / "probe.py").write_text(code)
    monkeypatch.setattr(_damage._probe, "__file__", str(tmp_path / "probe.py"))
    monkeypatch.setattr(_damage, "_SECONDS", 1)
    with pytest.raises(ValueError, match=rf"toy\.h5ad cannot be read as AnnData \({words}\)"):
        read_files(path)


def test_whole_files_of_all_kinds_pass(path, store, toy, paired, tmp_path):
    paired.write_h5mu(tmp_path / "paired.h5mu")
    toy.X = toy.X.toarray()
    toy.uns["nothing"] = np.array([])
    toy.write_h5ad(tmp_path / "dense.h5ad", compression="gzip")
    for file in (path, store, tmp_path / "paired.h5mu", tmp_path / "dense.h5ad"):
        assert read_files(file).n_obs == 150
    assert isinstance(read_files(path), AnnData)
