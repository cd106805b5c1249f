import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmetaq import pl


def test_every_metacell_is_in_a_bar(metacells):
    for given in (metacells, metacells.obs):
        ax = pl.size(given)
        assert sum(bar.get_height() for bar in ax.patches) == 6
        assert ax.texts[0].get_text() == "median 10"


@pytest.mark.parametrize("sizes", [[7, 7, 7], np.arange(1, 2000, 7), pd.Series([1])])
def test_any_sizes(sizes):
    ax = pl.size(sizes)
    assert sum(bar.get_height() for bar in ax.patches) == len(sizes)
    assert len(ax.patches) <= 31


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        (AnnData(np.ones((2, 1))), KeyError, "column 'n_cells'.*tl.aggregate"),
        (pd.DataFrame({"cell_type": ["B"]}), KeyError, r"'n_cells'.*found only \['cell_type'\]"),
        ([], ValueError, r"found shape \(0,\)"),
        ([1, np.nan, 3], ValueError, "found 1 of 3 missing or infinite"),
        ([1, np.inf, 3], ValueError, "found 1 of 3 missing or infinite"),
    ],
)
def test_bad_input_is_named(sizes, error, message):
    with pytest.raises(error, match=message):
        pl.size(sizes)
