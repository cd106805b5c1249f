"""Metacells that were made separately, together."""

import anndata
import mudata
import numpy as np
import pytest

from scmetaq import tl


@pytest.fixture
def two(blood):
    """Metacells of two halves of the cells, the second without the first genes."""
    first, second = blood[:200].copy(), blood[200:, 20:].copy()
    groups = np.arange(200) % 4
    return tl.aggregate(first, groups), tl.aggregate(second, groups)


def test_names_say_which_is_which_and_sums_are_kept(two, tmp_path):
    a, b = two
    merged = tl.merge_metacells([a, b], ["a", "b"])
    assert merged.obs_names.tolist() == [f"{key}:{i}" for key in "ab" for i in range(4)]
    assert merged.obs["origin"].tolist() == ["a"] * 4 + ["b"] * 4
    assert merged.var_names.equals(b.var_names)
    expected = a[:, b.var_names].layers["counts"].toarray()
    np.testing.assert_array_equal(merged[:4].layers["counts"].toarray(), expected)
    np.testing.assert_array_equal(merged[4:].X.toarray(), b.X.toarray())
    made = merged.uns["metaq"]
    assert (made["n_cells"], made["n_metacells"]) == (400, 8)
    assert made["parts"]["b"]["n_metacells"] == 4
    merged.write_h5ad(tmp_path / "merged.h5ad")
    assert anndata.read_h5ad(tmp_path / "merged.h5ad").obs_names.equals(merged.obs_names)


def test_all_features_are_kept_on_request(two):
    merged = tl.merge_metacells({"x": two[0], "y": two[1]}, join="outer", label="sample")
    assert merged.n_vars == 500
    assert merged.obs["sample"].tolist() == ["x"] * 4 + ["y"] * 4
    lacking = merged.var_names.difference(two[1].var_names)
    assert len(lacking) == 20
    assert merged[4:, lacking].layers["counts"].sum() == 0
    assert merged[:4, lacking].layers["counts"].sum() > 0


def test_modalities_are_merged_one_by_one(paired, tmp_path):
    metacells = tl.aggregate(paired, np.arange(150) % 3)
    merged = tl.merge_metacells([metacells, metacells])
    assert merged.obs_names.tolist() == [f"{key}:{i}" for key in "01" for i in range(3)]
    for name, part in merged.mod.items():
        np.testing.assert_array_equal(part[3:].X.toarray(), metacells[name].X.toarray())
    merged.write_h5mu(tmp_path / "merged.h5mu")
    assert mudata.read_h5mu(tmp_path / "merged.h5mu").n_obs == 6


def test_what_cannot_be_merged_is_refused(two, paired):
    a, b = two
    renamed = b.copy()
    renamed.var_names = "ENSG" + renamed.var_names
    with pytest.raises(ValueError, match="features that all metacells have, found none"):
        tl.merge_metacells([a, renamed])
    with pytest.raises(TypeError, match="as AnnData, or all as MuData, found AnnData, MuData"):
        tl.merge_metacells([a, tl.aggregate(paired, np.arange(150) % 3)])
    with pytest.raises(TypeError, match="found none"):
        tl.merge_metacells([])
    with pytest.raises(ValueError, match="a key for each of 2"):
        tl.merge_metacells([a, b], ["a"])
    with pytest.raises(ValueError, match="unique keys"):
        tl.merge_metacells([a, b], ["a", "a"])
