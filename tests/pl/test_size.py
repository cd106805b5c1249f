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
