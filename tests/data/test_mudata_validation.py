import mudata
import numpy as np
import pandas as pd
import pytest
from mudata import MuData

from scmetaq.data._mudata_validation import (
    check_is_mudata,
    check_mudata,
    check_mudata_columns,
    with_modality_features,
)

NAMES = {"rna": "rna", "adt": "adt", "atac": "atac"}
LAYERS = dict.fromkeys(NAMES)


def check(mdata, names=NAMES, **layers):
    check_mudata(mdata, names, LAYERS | layers)


def test_good_data_pass(toy_mdata, mosaic):
    check(toy_mdata)
    check(mosaic)


def test_an_anndata_is_refused(toy):
    with pytest.raises(TypeError, match="Expected a MuData, found AnnData.*use setup_anndata"):
        check_is_mudata(toy)


def test_the_modality_is_named(toy_mdata):
    X = toy_mdata["adt"].X = toy_mdata["adt"].X.toarray()
    X[3, 2] = 0.5
    with pytest.raises(ValueError, match=r"mdata\['adt'\]\.X, found 1 non-integer.*adt_layer="):
        check(toy_mdata)
    X[3] = 0
    fix = r"sc.pp.filter_cells\(mdata\['adt'\], min_counts=1\); mdata.update\(\)"
    with pytest.raises(
        ValueError, match=rf"1 of 150 cells have no counts in mdata\['adt'\].*{fix}"
    ):
        check(toy_mdata)


def test_an_unknown_layer(toy_mdata):
    with pytest.raises(KeyError, match=r"No layer 'raw' in mdata\['atac'\]\.layers"):
        check(toy_mdata, atac="raw")


def test_a_modality_that_was_changed_since(toy_mdata):
    toy_mdata.mod["adt"]._inplace_subset_obs(np.arange(100))
    with pytest.raises(ValueError, match=r"cells of mdata\['adt'\].*Fix: mdata.update\(\)"):
        check(toy_mdata)
    toy_mdata.update()
    check(toy_mdata)


def test_modalities_without_a_cell_in_common(toy_mdata):
    apart = MuData({"rna": toy_mdata["rna"][:70].copy(), "adt": toy_mdata["adt"][70:].copy()})
    with pytest.raises(ValueError, match=r"Expected cells that have mdata\['rna'\] and another"):
        check(apart, {"rna": "rna", "adt": "adt"})


def test_few_cells_in_common_are_told(toy_mdata):
    apart = MuData({"rna": toy_mdata["rna"][:80].copy(), "adt": toy_mdata["adt"][75:].copy()})
    with pytest.warns(UserWarning, match=r"5 of the 80 cells of mdata\['rna'\] have another"):
        check(apart, {"rna": "rna", "adt": "adt"})


def test_the_way_told_to_unique_barcodes_leads_there(toy_mdata):
    parts = {name: toy_mdata[name].copy() for name in ("rna", "adt")}
    for part in parts.values():
        part.obs_names = ["twin", "twin", *part.obs_names[2:]]
    mdata = MuData(parts)
    with pytest.raises(ValueError, match="found 1 .*'twin'") as error:
        check(mdata, {"rna": "rna", "adt": "adt"})
    loop, together = str(error.value).split("Fix: ")[-1].split(", and put the modalities together")
    scope = {"mdata": mdata, "mudata": mudata}
    exec(loop, scope)
    exec(together.removeprefix(" again, ").partition(", and give")[0], scope)
    assert scope["mdata"].obs_names[:2].tolist() == ["twin", "twin-1"]
    check(scope["mdata"], {"rna": "rna", "adt": "adt"})


def test_cells_without_any_modality_in_use(mosaic):
    with pytest.raises(ValueError, match="50 of 150 cells have none of the modalities in use"):
        check(mosaic, {"adt": "adt"})


def test_columns_of_the_mudata_or_of_a_modality(toy_mdata):
    check_mudata_columns(toy_mdata, {"labels_key": ["state"]}, {}, "Unknown")
    check_mudata_columns(toy_mdata, {"labels_key": ["depth"]}, {"labels_key": "rna"}, "Unknown")
    with pytest.raises(KeyError, match=r"No column 'kind' in mdata\.obs"):
        check_mudata_columns(toy_mdata, {"labels_key": ["kind"]}, {}, "Unknown")
    with pytest.raises(KeyError, match=r"No column 'kind' in mdata\['adt'\]\.obs"):
        check_mudata_columns(toy_mdata, {"labels_key": ["kind"]}, {"labels_key": "adt"}, "Unknown")


def test_features_are_put_in_the_order_of_the_model(toy_mdata):
    features = {name: toy_mdata[name].var_names for name in ("rna", "adt")}
    assert with_modality_features(toy_mdata, features, LAYERS) is toy_mdata
    other = MuData({k: toy_mdata[k][:, ::-1].copy() for k in ("adt", "rna")})
    other.obs["state"] = toy_mdata.obs["state"]
    found = with_modality_features(other, features, LAYERS)
    for name, expected in features.items():
        pd.testing.assert_index_equal(found[name].var_names, expected)
        assert abs(found[name].X - toy_mdata[name].X).max() == 0
    assert found.obs["state"].equals(toy_mdata.obs["state"])
    assert other["rna"].var_names[0] == "gene59"


def test_mosaic_cells_stay_in_order(mosaic):
    features = {name: mosaic[name].var_names[::-1] for name in NAMES}
    found = with_modality_features(mosaic, features, LAYERS)
    pd.testing.assert_index_equal(found.obs_names, mosaic.obs_names)


def test_columns_pulled_from_modalities_are_kept(toy_mdata):
    toy_mdata.obs["rna:batch"] = "one"
    features = {name: toy_mdata[name].var_names[::-1] for name in NAMES}
    assert (with_modality_features(toy_mdata, features, LAYERS).obs["rna:batch"] == "one").all()


def test_a_missing_modality_has_no_cells(toy_mdata):
    features = {name: toy_mdata[name].var_names for name in ("rna", "adt")}
    layers = {"rna": None, "adt": "counts"}
    found = with_modality_features(MuData({"rna": toy_mdata["rna"]}), features, layers)
    pd.testing.assert_index_equal(found.obs_names, toy_mdata.obs_names)
    pd.testing.assert_index_equal(found["adt"].var_names, features["adt"])
    assert found["adt"].layers["counts"].shape == (0, 8)
    assert abs(found["rna"].X - toy_mdata["rna"].X).max() == 0


def test_missing_modalities_and_features_are_told(toy_mdata):
    features = {name: toy_mdata[name].var_names for name in ("rna", "adt")}
    with pytest.raises(ValueError, match="modalities that the model.*'rna', 'adt', found 'atac'"):
        with_modality_features(MuData({"atac": toy_mdata["atac"]}), features, LAYERS)
    few = MuData({"rna": toy_mdata["rna"], "adt": toy_mdata["adt"][:, 1:].copy()})
    with pytest.raises(ValueError, match="found only 7 of them: 1 are missing"):
        with_modality_features(few, features, LAYERS)
