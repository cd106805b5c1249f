import numpy as np
import pandas as pd
import pytest

from scmetaq import pl


def test_every_metacell_is_in_a_bar(metacells):
    ax = pl.size(metacells)
    assert sum(bar.get_height() for bar in ax.patches) == 6
    assert ax.texts[0].get_text() == "median 10"


@pytest.mark.parametrize("sizes", [[7, 7, 7], np.arange(1, 2000, 7), pd.Series([1])])
def test_any_sizes(sizes):
    ax = pl.size(sizes)
    assert sum(bar.get_height() for bar in ax.patches) == len(sizes)
    assert len(ax.patches) <= 31


def test_bad_input_is_named(adata):
    with pytest.raises(KeyError, match="column 'n_cells'.*tl.aggregate"):
        pl.size(adata)
    with pytest.raises(ValueError, match=r"found shape \(0,\)"):
        pl.size([])


def test_the_table_of_metacells_is_enough(metacells):
    assert sum(bar.get_height() for bar in pl.size(metacells.obs).patches) == 6
    with pytest.raises(KeyError, match=r"'n_cells'.*found only \['cell_type'\]"):
        pl.size(metacells.obs[["cell_type"]])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sizes_that_are_no_number_are_refused(value):
    with pytest.raises(ValueError, match="found 1 of 3 missing or infinite"):
        pl.size([1, value, 3])
