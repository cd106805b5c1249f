import numpy as np
import pandas as pd
import pytest

from scmetaq.metrics._cell_values import cell_values


def test_column_series_and_array_are_the_same(adata):
    column = cell_values(adata, "metacell", what="assignment")
    shuffled = adata.obs["metacell"].sample(frac=1, random_state=0)
    series = cell_values(adata, shuffled, what="assignment")
    array = cell_values(adata, adata.obs["metacell"].to_numpy(), what="assignment")
    assert column.tolist() == series.tolist() == array.tolist()
    assert series.index.equals(adata.obs_names)


def test_barcodes_beyond_the_cells_are_ignored(adata):
    more = pd.concat([adata.obs["metacell"].astype(str), pd.Series({"stranger": "mc00"})])
    assert len(cell_values(adata, more, what="assignment")) == adata.n_obs


def test_unknown_column_lists_those_there(adata):
    with pytest.raises(KeyError, match=r"no 'mc'.*\['cell_type', 'metacell'\]"):
        cell_values(adata, "mc", what="assignment")


def test_absent_barcodes_are_counted(adata):
    with pytest.raises(ValueError, match="found 3 barcodes missing, e.g. 'cell0'"):
        cell_values(adata, adata.obs["metacell"].iloc[3:], what="assignment")


def test_repeated_barcodes_are_refused(adata):
    twice = pd.concat([adata.obs["metacell"]] * 2)
    with pytest.raises(ValueError, match="barcode 'cell0' repeatedly"):
        cell_values(adata, twice, what="assignment")


def test_frames_and_wrong_lengths_are_refused(adata):
    with pytest.raises(TypeError, match=r"frame\['metacell'\]"):
        cell_values(adata, adata.obs, what="assignment")
    with pytest.raises(ValueError, match=r"shape \(120,\).*found shape \(119,\)"):
        cell_values(adata, np.zeros(119), what="assignment")
