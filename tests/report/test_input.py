import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from scmetaq.report._input import (
    check_counts_layer,
    check_embedding,
    check_labels,
    make_folder,
    read_assignments,
)


def test_all_forms_of_an_assignment_are_the_same(adata, assignments):
    names = assignments["metacell"]
    adata.obs["mine"] = names
    forms = [assignments[::-1], names, "mine", names.to_numpy(), names.tolist()]
    tables = [read_assignments(adata, form) for form in forms]
    for table in tables:
        pd.testing.assert_series_equal(table["metacell"], tables[0]["metacell"])
    assert tables[0].index.equals(adata.obs_names)
    assert tables[0]["margin"].equals(assignments["margin"])
    assert tables[0]["metacell"].tolist()[:2] == ["mc0", "mc0"]


def test_numbers_are_text_without_a_point_and_missing_ones_are_none(adata):
    numbers = pd.Series([7.0, np.nan, 3.0], adata.obs_names[:3])
    found = read_assignments(adata, numbers)["metacell"]
    assert found.dropna().to_dict() == {"cell0": "7", "cell2": "3"}
    mixed = pd.Series([1, "1", -1], adata.obs_names[:3], dtype=object)
    assert read_assignments(adata, mixed)["metacell"].dropna().tolist() == ["1", "1"]


def test_bad_assignments_are_refused(adata, assignments):
    with pytest.raises(KeyError, match=r"with the column 'metacell', found \['mc', 'margin'\]"):
        read_assignments(adata, assignments.rename(columns={"metacell": "mc"}))
    with pytest.raises(ValueError, match="'cell0' repeatedly"):
        read_assignments(adata, pd.concat([assignments] * 2))
    with pytest.raises(ValueError, match=r"barcodes of the cells \(e.g. 'cell0'\), .*\(e.g. 0\)"):
        read_assignments(adata, assignments.reset_index(drop=True))
    with pytest.raises(ValueError, match=r"`assignments` of shape \(60,\).*found shape \(59,\)"):
        read_assignments(adata, np.zeros(59))
    with pytest.raises(KeyError, match="`assignments` to name a column of `obs`, found no 'mine'"):
        read_assignments(adata, "mine")
    with pytest.raises(TypeError, match="Expected an AnnData or a MuData with cells, found DataF"):
        read_assignments(adata.obs, assignments)


def test_columns_of_labels_are_checked(adata):
    adata.obs["depth"], adata.obs["stage"] = np.linspace(0, 1, 60), 2.0
    check_labels(adata, ["cell_type", "stage"])
    with pytest.raises(KeyError, match="`labels_key` to name a column of `obs`, found no 'zz'"):
        check_labels(adata, ["cell_type", "zz"])
    with pytest.raises(TypeError, match="`labels_key='depth'`, found decimal numbers"):
        check_labels(adata, ["depth"])


def test_an_embedding_is_of_all_cells(adata):
    check_embedding(adata, None)
    check_embedding(adata, np.zeros((60, 3)))
    for shape in ((59, 3), (60,)):
        with pytest.raises(ValueError, match=r"`embedding` of shape \(60, n_latent\)"):
            check_embedding(adata, np.zeros(shape))


def test_a_layer_is_of_the_cells_or_of_a_modality(adata):
    adata.layers["raw"] = adata.X
    mdata = MuData({"rna": adata, "adt": adata[:, :2].copy()})
    del mdata["adt"].layers["raw"]
    for cells, told in ((adata, "a layer, found no 'zz'"), (mdata, "of a modality, found no 'zz'")):
        check_counts_layer(cells, None)
        check_counts_layer(cells, "raw")
        with pytest.raises(KeyError, match=told):
            check_counts_layer(cells, "zz")


def test_folders_are_made(tmp_path):
    make_folder(tmp_path / "a" / "b" / "report.html")
    make_folder(tmp_path / "a" / "b" / "report.html")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(IsADirectoryError, match="found the folder .*Name a file in it"):
        make_folder(tmp_path / "folder.html")
    with pytest.raises(ValueError, match=r"to end in .html, found .*cells.h5ad"):
        make_folder(tmp_path / "cells.h5ad")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="found the file"):
        make_folder(tmp_path / "file" / "c" / "report.html")
