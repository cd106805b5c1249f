import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmetaq import pl

FRAME = pd.DataFrame(
    {
        "truth": ["a", "a", "a", "a", "b", "b", None, "c"],
        "kind": ["a", "a", "a", "b", "b", "b", "a", "b"],
        "kind_unknown": [False, False, True, False, False, False, False, True],
    }
)


def image(ax):
    return np.asarray(ax.images[0].get_array())


def names(labels):
    return [label.get_text() for label in labels]


def test_fields_are_fractions_of_rows():
    ax = pl.confusion(FRAME.drop(columns="kind_unknown"), "truth", "kind")
    assert names(ax.get_yticklabels()) == ["a  (4)", "b  (2)", "c  (1)"]
    assert names(ax.get_xticklabels()) == ["a", "b", "c"]
    np.testing.assert_allclose(image(ax), [[0.75, 0.25, 0], [0, 1, 0], [0, 1, 0]])
    assert sorted(names(ax.texts)) == [".25", ".75", "1", "1"]


def test_unknown_cells_have_a_column():
    ax = pl.confusion(AnnData(obs=FRAME), "truth", "kind")
    assert names(ax.get_xticklabels()) == ["a", "b", "c", "unknown"]
    np.testing.assert_allclose(image(ax)[:, 3], [0.25, 0, 1])


def test_given_axes_are_used_and_cells_are_not_changed():
    before = FRAME.copy()
    ax = pl.confusion(FRAME, "truth", "kind")
    assert pl.confusion(FRAME, "truth", "kind", ax=ax) is ax
    pd.testing.assert_frame_equal(FRAME, before)


def test_columns_are_checked():
    with pytest.raises(KeyError, match="No column 'type'.*'truth', 'kind'"):
        pl.confusion(FRAME, "type", "kind")
    with pytest.raises(ValueError, match="both 'truth' and 'kind', found none"):
        pl.confusion(FRAME.assign(truth=None), "truth", "kind")


def test_integers_with_missing_values_are_the_same_labels():
    given = pd.Series([0, 1, 2] * 9 + [np.nan] * 3)
    ax = pl.confusion(pd.DataFrame({"t": [0, 1, 2] * 10, "p": given}), "t", "p")
    assert names(ax.get_xticklabels()) == ["0", "1", "2"]
    np.testing.assert_array_equal(image(ax), np.eye(3))
