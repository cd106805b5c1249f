"""Files are read or left on disk, and joined."""

import warnings

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from scmetaq.data import _files, read_files
from scmetaq.data._containers import Rows


@pytest.fixture
def halves(blood, tmp_path):
    """Two halves of some cells: other features in another order, columns and categories."""
    cells = blood[:120, :300].copy()
    cells.layers["raw"] = cells.X.copy()
    first, second = cells[:70, :250].copy(), cells[70:, ::-1].copy()
    first.obs["only"], first.obs["lane"] = 1, pd.Categorical(["x"] * 70)
    first.obs["damaged"], first.obs["labels"] = True, pd.Categorical(["T"] * 70)
    first.layers["spliced"] = first.X.copy()
    second.obs["lane"] = pd.Categorical(["y"] * 50)
    first.write_h5ad(tmp_path / "one.h5ad")
    second.write_zarr(tmp_path / "two.zarr")
    return cells, [tmp_path / "one.h5ad", tmp_path / "two.zarr"]


@pytest.fixture(params=["in memory", "on disk"])
def place(request, monkeypatch):
    if request.param == "on disk":
        monkeypatch.setattr(_files, "MOST_IN_MEMORY", 0)
    return request.param


def test_files_are_joined_alike_in_memory_and_on_disk(halves, place):
    cells, paths = halves
    with pytest.warns(UserWarning, match="left out") as told:
        found = read_files(paths, file_key="sample")
    ours = [str(of.message) for of in told if of.category is UserWarning]
    assert ours == [
        "250 of up to 300 features are in all files; others are left out.",
        "The layer 'spliced' is left out: it is not in 'two'.",
        "Columns of obs that not all files have get missing values: 'only', 'damaged', 'labels'.",
    ]
    assert list(found.obs_names) == list(cells.obs_names)
    assert list(found.var_names) == list(cells.var_names[:250])
    assert isinstance(found.X, np.ndarray) is False
    assert Rows(found.X).is_in_memory == (place == "in memory")
    expected = cells.X[:, :250].toarray()
    for counts in (found.X, found.layers["raw"]):
        rows = Rows(counts)
        np.testing.assert_array_equal(rows[:].toarray(), expected)
        np.testing.assert_array_equal(rows[60:80].toarray(), expected[60:80])
        chosen = np.array([3, 69, 70, 110])
        np.testing.assert_array_equal(rows[chosen].toarray(), expected[chosen])
        assert rows[5:5].shape == (0, 250)
    assert list(found.obs["sample"].cat.categories) == ["one", "two"]
    assert list(found.obs["sample"]) == ["one"] * 70 + ["two"] * 50
    assert list(found.obs["lane"].cat.categories) == ["x", "y"]
    assert list(found.obs.loc[found.obs["only"].isna(), "lane"].unique()) == ["y"]
    assert found.obs["damaged"].value_counts(dropna=False).to_dict() == {True: 70, pd.NA: 50}
    assert list(found.obs["labels"].cat.categories) == ["T"]
    assert found.obs["labels"].isna().sum() == 50
    kinds = found.obs["cell_type"]
    assert list(kinds) == list(cells.obs["cell_type"])
    assert isinstance(kinds.dtype, pd.CategoricalDtype)


def test_shared_barcodes_get_the_name_of_their_file(halves, tmp_path):
    cells, paths = halves
    (tmp_path / "deep").mkdir()
    again = anndata.read_h5ad(paths[0])[:5].copy()
    again.write_h5ad(tmp_path / "deep" / "one.h5ad")
    with pytest.warns(UserWarning, match="share barcodes.*appended in .*/one, deep/one"):
        found = read_files([*paths, tmp_path / "deep" / "one.h5ad"])
    assert found.obs_names.is_unique
    assert list(found.obs_names[70:120]) == list(cells.obs_names[70:])
    assert list(found.obs_names[120:]) == [f"{name}-deep/one" for name in cells.obs_names[:5]]
    assert found.obs_names[0].endswith("/one")


@pytest.mark.parametrize("ending", ["h5ad", "zarr", "h5mu", "mod.zarr"])
def test_one_file_on_disk_equals_it_in_memory(blood, paired, tmp_path, monkeypatch, ending):
    path = tmp_path / f"cells.{ending}"
    if "mu" in ending or "mod" in ending:
        data = paired.copy()
        (data.write_h5mu if ending == "h5mu" else data.write_zarr)(path)
        expected = read_files(path)
    else:
        data = blood[:50].copy()
        data.obsm["X_umap"], data.layers["dense"] = np.ones((50, 2)), data.X.toarray()
        data.layers["by features"] = data.X.tocsc()
        (data.write_h5ad if ending == "h5ad" else data.write_zarr)(path)
        expected = read_files(path)
    monkeypatch.setattr(_files, "MOST_IN_MEMORY", 0)
    found = read_files(path)
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    for name, part in getattr(expected, "mod", {"": expected}).items():
        lazy = found.mod[name] if name else found
        assert not Rows(lazy.X).is_in_memory
        assert (Rows(lazy.X)[:] != part.X).nnz == 0
        pd.testing.assert_frame_equal(lazy.var, part.var)
        assert set(lazy.layers) == set(part.layers)
        for key in set(part.layers) - {None}:
            assert (Rows(lazy.layers[key])[:] != part.layers[key]).sum() == 0
    if ending == "h5ad":
        np.testing.assert_array_equal(found.obsm["X_umap"], expected.obsm["X_umap"])


def test_rows_that_cannot_be_read_are_named(blood, tmp_path, monkeypatch):
    path = tmp_path / "cells.h5ad"
    blood[:50].copy().write_h5ad(path, compression="gzip")
    with h5py.File(path) as file:
        chunk = file["X"]["data"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(chunk.size))
    monkeypatch.setattr(_files, "MOST_IN_MEMORY", 0)
    rows = Rows(read_files([path]).X)
    told = rf"rows 0 to 20 of {path} cannot be read \(.*(filter|inflate).*\): it is truncated.*Copy"
    with pytest.raises(ValueError, match=told):
        rows[:20]


def test_modalities_are_joined_by_name(paired, place, tmp_path):
    first = MuData({name: part[:90].copy() for name, part in paired.mod.items()})
    second = MuData({name: paired[name][90:].copy() for name in ("rna", "adt")})
    for of in (first, second):
        of.obs["state"] = paired.obs.loc[of.obs_names, "state"]
    first.write_h5mu(tmp_path / "one.h5mu")
    second.write_zarr(tmp_path / "two.zarr")
    found = read_files([tmp_path / "one.h5mu", tmp_path / "two.zarr"], file_key="file")
    assert list(found.obs_names) == list(paired.obs_names)
    assert list(found.obs["state"]) == list(paired.obs["state"])
    assert list(found.obs["file"]) == ["one"] * 90 + ["two"] * 60
    assert {name: part.n_obs for name, part in found.mod.items()} == {
        "rna": 150,
        "adt": 150,
        "atac": 90,
    }
    assert (Rows(found["rna"].X)[:] != paired["rna"].X).nnz == 0
    assert Rows(found["rna"].X).is_in_memory == (place == "in memory")


def test_what_cannot_be_joined_is_refused(halves, paired, tmp_path):
    _, (one, two) = halves
    other = anndata.read_h5ad(one)
    del other.layers["raw"]
    other.write_h5ad(tmp_path / "plain.h5ad")
    other.var_names = [f"other{i}" for i in range(other.n_vars)]
    other.write_h5ad(tmp_path / "strange.h5ad")
    other.obs_names = ["same"] * other.n_obs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other.write_h5ad(tmp_path / "twice.h5ad")
        paired.write_h5mu(tmp_path / "several.h5mu")
        for name, told in {
            "strange": "none: e.g. '.*' in one, 'other0', 'other1', 'other2' in strange",
            "twice": "unique barcodes in twice, found 1 that occur more than once, e.g. 'same'",
            "plain": "Expected the layer 'raw' in all files, found none in plain",
        }.items():
            with pytest.raises(ValueError if name != "plain" else KeyError, match=told):
                read_files([one, tmp_path / f"{name}.h5ad"], layer="raw")
    with pytest.raises(ValueError, match=r"one\.h5ad and of several in .*several\.h5mu"):
        read_files([one, tmp_path / "several.h5mu"])
    with pytest.raises(ValueError, match=r"found .*one\.h5ad more than once"):
        read_files([one, two, one])
    with pytest.raises(ValueError, match="new column for the files, found 'lane'"):
        read_files(one, file_key="lane")


def without_types(path):
    """As old versions of mudata wrote it."""
    with h5py.File(path, "a") as file:
        for part in file["mod"].values():
            for key in list(part.attrs):
                del part.attrs[key]


def test_files_that_cannot_be_read_say_the_likely_cause(paired, blood, tmp_path):
    paired.write_h5mu(tmp_path / "old.h5mu")
    without_types(tmp_path / "old.h5mu")
    paired.write_h5mu(tmp_path / "several.h5ad")
    blood[:20].copy().write_h5ad(tmp_path / "odd.h5ad")
    with h5py.File(tmp_path / "odd.h5ad", "a") as file:
        file["obs"].attrs["encoding-version"] = "9.9"
    with h5py.File(tmp_path / "matrix.h5ad", "w") as file:
        file.create_group("matrix")
    with h5py.File(tmp_path / "loom.h5ad", "w") as file:
        file["matrix"], file["row_attrs/Gene"] = np.ones((3, 3)), np.arange(3)
    with h5py.File(tmp_path / "genome.h5ad", "w") as file:
        file["GRCh38/barcodes"], file["version"] = np.arange(3), 2
    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file.create_group("images")
    (tmp_path / "page.h5ad").write_text("<!DOCTYPE html>")
    (tmp_path / "empty.h5mu").touch()
    (tmp_path / "empty.zarr").mkdir()
    for name, told in {
        "old.h5mu": "written by an old version or another program.*with a recent mudata",
        "odd.h5ad": "written by an old version or another program.*with a recent anndata",
        "several.h5ad": "holds modalities, so give it the ending .h5mu",
        "matrix.h5ad": r"scanpy.read_10x_h5\(path, gex_only=False\)",
        "loom.h5ad": r"anndata.io.read_loom\(path\)",
        "genome.h5ad": r"scanpy.read_10x_h5\(path, gex_only=False\)",
        "other.h5ad": "it is whole, but of another format",
        "page.h5ad": "may be truncated or of another format",
        "empty.h5mu": "may be truncated",
        "empty.zarr": "may be truncated",
    }.items():
        with pytest.raises(ValueError, match=f"{name} cannot be read as .*{told}"):
            read_files(tmp_path / name)
    with pytest.raises(ValueError, match="Expected .h5ad or .h5mu files or .zarr stores"):
        read_files(__file__)
    with pytest.raises(ValueError, match="There is no .*none.h5ad"):
        read_files(tmp_path / "none.h5ad")


def test_a_file_for_which_there_is_no_memory_is_not_called_truncated(blood, tmp_path, monkeypatch):
    def read(path):
        raise MemoryError

    blood[:20].copy().write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr(anndata, "read_h5ad", read)
    with pytest.raises(MemoryError):
        read_files(tmp_path / "cells.h5ad")
