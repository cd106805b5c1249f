import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scmetaq import pl
from scmetaq.pl._style import PALETTE


def test_each_metacell_is_a_point_in_the_row_of_its_label(metacells):
    ax = pl.purity(metacells)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["B  (4)", "T  (2)"]
    for row, (points, fractions) in enumerate(
        zip(ax.collections, [[1, 0.9, 0.8, 0.7], [0.6, 0.95]], strict=True)
    ):
        x, y = np.asarray(points.get_offsets()).T
        np.testing.assert_allclose(x, fractions)
        assert (abs(y - row) < 0.3).all()


def test_a_label_keeps_its_colour_where_others_are_absent(metacells):
    points = pl.purity(metacells, "cell_type").collections[1]
    assert to_hex(points.get_facecolors()[0]).upper() == PALETTE[2]


def test_the_table_alone_is_enough(metacells):
    ax = pl.purity(metacells.obs)
    assert pl.purity(metacells.obs, ax=ax) is ax


def test_bad_input_is_named(metacells):
    with pytest.raises(KeyError, match=r"'kind'.*found such pairs for \['cell_type'\]"):
        pl.purity(metacells, "kind")
    with pytest.raises(KeyError, match=r"found such pairs for \[\]"):
        pl.purity(metacells.obs[["n_cells"]])


def test_labels_that_are_all_missing_are_refused(metacells):
    metacells.obs["cell_type"] = pd.Categorical([None] * 6)
    with pytest.raises(ValueError, match="label in 'cell_type', found none among 6"):
        pl.purity(metacells)
