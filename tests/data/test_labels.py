import numpy as np
import pandas as pd
import pytest

from scmetaq import MetaQModel
from scmetaq.data._labels import check_labels, read_labels


def test_labels_are_read(toy):
    toy.obs["kind"] = pd.Series(["b", "a", None, "Unknown", "b"] * 30, index=toy.obs_names)
    names, codes = read_labels(toy, "kind", "Unknown")
    assert names == ["a", "b"]
    np.testing.assert_array_equal(codes, [1, 0, -1, -1, 1] * 30)


def test_numbers_are_labels_too(toy):
    toy.obs["kind"] = [2, 10, -1] * 50
    names, codes = read_labels(toy, "kind", "-1")
    assert names == ["10", "2"]
    np.testing.assert_array_equal(codes, [1, 0, -1] * 50)
    for same in (-1, -1.0):
        np.testing.assert_array_equal(read_labels(toy, "kind", same).codes, codes)
    toy.obs["kind"] = toy.obs["kind"].astype(float).replace(10, np.nan)
    names, codes = read_labels(toy, "kind", "-1")
    assert names == ["2"]  # which a missing value has made a decimal number
    np.testing.assert_array_equal(codes, [0, -1, -1] * 50)
    toy.obs["kind"] = [0.5, 1.0, 2.25] * 50
    assert read_labels(toy, "kind", "Unknown").names == ["0.5", "1", "2.25"]


def test_cells_without_the_column_have_no_labels(toy):
    names, codes = read_labels(toy, "none", "Unknown")
    assert names == []
    assert (codes == -1).all()


def test_cells_that_lack_the_modality_have_no_labels(mosaic):
    mosaic["adt"].obs["kind"] = "a"
    names, codes = read_labels(mosaic, "kind", "Unknown", "adt")
    assert names == ["a"]
    np.testing.assert_array_equal(codes, [-1] * 50 + [0] * 100)


@pytest.mark.parametrize(
    ("labels_key", "error", "message"),
    [
        (3, TypeError, "name of a column or a list"),
        (["state", "state"], ValueError, "each labels_key once, found 'state'"),
        ("kind", KeyError, "No column 'kind'"),
        (["state", "nothing"], ValueError, "All values of adata.obs..nothing.. are missing"),
        ("barcode", ValueError, "found 150 different values"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(toy, labels_key, error, message):
    toy.obs["nothing"] = "Unknown"
    toy.obs["barcode"] = toy.obs_names
    with pytest.raises(error, match=message):
        check_labels(toy, labels_key, "Unknown")
    with pytest.raises(error, match=message):
        MetaQModel.setup_anndata(toy, labels_key=labels_key)
    assert "_scvi_uuid" not in toy.uns


def test_columns_of_modalities_are_checked(mosaic):
    with pytest.raises(KeyError, match="No column 'kind' in mdata..adt...obs"):
        check_labels(mosaic, "kind", "Unknown", modalities={"labels_key": "adt"})


def test_a_single_cell_with_a_label_is_refused(toy):
    toy.obs["kind"] = pd.Series(["a"], index=toy.obs_names[:1]).reindex(toy.obs_names)
    with pytest.raises(ValueError, match="labels that cells share, found 1 different values"):
        check_labels(toy, ["state", "kind"], "Unknown")
