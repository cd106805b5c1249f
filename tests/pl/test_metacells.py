import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

from scmetaq import pl
from scmetaq.pl._style import PALETTE

COUNTS = pd.DataFrame({"a": [10, 5, 1, 0], "b": [0, 5, 3, 8]}, index=[f"mc{i}" for i in range(4)])
FRAME = pd.DataFrame({"truth": [*"aaaabb", None, "c"], "kind": [*"aaabbbab"]})
FRAME["kind_unknown"] = FRAME.index.isin([2, 7])


def texts(labels):
    return [label.get_text() for label in labels]


def test_shares_of_each_metacell_are_stacked_and_dollars_are_no_mathematics():
    ax = pl.composition(COUNTS.rename(columns={"a": "_a"}))
    box = ax.collections[0].get_datalim(ax.transData)
    assert (box.x0, box.x1) == (0, 4)
    area = [_area(part.get_paths()[0]) for part in ax.collections]
    np.testing.assert_allclose(area, COUNTS.div(COUNTS.sum(axis=1), axis=0).sum())
    assert [to_hex(c.get_facecolor()[0]).upper() for c in ax.collections] == list(PALETTE[:2])
    assert texts(ax.get_legend().get_texts()) == ["_a", "b"]
    assert ax.get_xlabel() == "4 metacells"
    groups = pd.Series(["$x$", "$x$", "B", "B"], COUNTS.index)
    ax = pl.composition(COUNTS.set_axis(["$a$", "b"], axis=1), groups)
    shown = [ax.texts[0], ax.get_legend().get_texts()[0]]
    assert texts(shown) == [r"\$x\$", r"\$a\$"]
    read = [text._preprocess_math(text.get_text()) for text in shown]
    assert read == [("$x$", False), ("$a$", False)]


def _area(path):
    x, y = path.vertices[:, 0], path.vertices[:, 1]
    return abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def test_groups_are_separated_and_named_and_given_axes_and_colours_used():
    groups = pd.Series(["T", "T", "B", "B"], COUNTS.index[::-1])
    ax = pl.composition(COUNTS, groups)
    assert texts(ax.texts) == ["B", "T"]
    assert [line.get_xdata()[0] for line in ax.lines] == [2]
    ax = pl.composition(COUNTS, pd.Series(["T", None, np.nan, "B"], COUNTS.index, dtype=object))
    assert texts(ax.texts) == ["T", "no label", "B"]
    ax = pl.composition(COUNTS)
    assert pl.composition(COUNTS, colors=["#ff0000", "#00ff00"], ax=ax) is ax
    assert to_hex(ax.collections[2].get_facecolor()[0]) == "#ff0000"


def test_a_plot_keeps_its_width_next_to_many_conditions():
    counts = pd.DataFrame(1, range(10), [f"a long sample name {i}" for i in range(40)])
    ax = pl.composition(counts)
    ax.figure.draw_without_rendering()
    assert ax.bbox.width / ax.figure.dpi > 4
    assert len({to_hex(part.get_facecolor()[0]) for part in ax.collections}) == 40
    assert ax.get_legend().get_window_extent().x1 <= ax.figure.bbox.x1
    figure, ax = plt.subplots(figsize=(5, 3))
    pl.composition(counts, ax=ax)
    assert figure.get_figwidth() == 5  # figures of the user keep theirs
    more_than_colours = pd.DataFrame(1, index=range(3), columns=range(101))
    assert pl.composition(more_than_colours).get_legend() is None


@pytest.mark.parametrize(
    ("counts", "groups", "message"),
    [
        (COUNTS.replace(5, 0), None, r"cells in each metacell, found shape \(4, 2\)"),
        (COUNTS.replace(3, -5), None, r"none below zero.*with \[1, -5\] in 'mc2'"),
        (COUNTS[:0], None, r"found shape \(0, 2\)"),
        (COUNTS, pd.Series("T", ["mc0"]), "found none for 3 of 4, e.g. 'mc1'"),
        (COUNTS.set_axis(["a", "a"], axis=1), None, "e.g. 'a'. Fix: sum them"),
    ],
)
def test_bad_counts_are_named(counts, groups, message):
    with pytest.raises(ValueError, match=message):
        pl.composition(counts, groups)


def test_each_metacell_is_a_point_in_the_row_of_its_label(metacells):
    ax = pl.purity(metacells)
    assert texts(ax.get_yticklabels()) == ["B  (4)", "T  (2)"]
    expected = [[1, 0.9, 0.8, 0.7], [0.6, 0.95]]
    for row, (points, fractions) in enumerate(zip(ax.collections, expected, strict=True)):
        x, y = np.asarray(points.get_offsets()).T
        np.testing.assert_allclose(x, fractions)
        assert (abs(y - row) < 0.3).all()
        assert len(np.unique(y)) == len(y)
    # a label keeps its colour where others are absent
    assert to_hex(ax.collections[1].get_facecolors()[0]).upper() == PALETTE[2]
    other = pl.purity(metacells.obs, "cell_type")  # the table alone is enough
    assert pl.purity(metacells.obs, ax=other) is other
    again, first = (np.asarray(of.collections[0].get_offsets()) for of in (other, ax))
    np.testing.assert_array_equal(again[:4], first)
    with pytest.raises(KeyError, match=r"'kind'.*found such pairs for \['cell_type'\]"):
        pl.purity(metacells, "kind")
    with pytest.raises(KeyError, match=r"found such pairs for \[\]"):
        pl.purity(metacells.obs[["n_cells"]])
    with pytest.raises(ValueError, match="label in 'cell_type', found none among 6"):
        pl.purity(metacells.obs.assign(cell_type=pd.Categorical([None] * 6)))


def test_every_metacell_is_in_one_of_at_most_31_bars(metacells):
    for given in (metacells, metacells.obs):
        ax = pl.size(given)
        assert sum(bar.get_height() for bar in ax.patches) == 6
        assert texts(ax.texts) == ["median 10"]
    for sizes in ([7, 7, 7], np.arange(1, 2000, 7), pd.Series([1])):
        ax = pl.size(sizes)
        assert sum(bar.get_height() for bar in ax.patches) == len(sizes)
        assert len(ax.patches) <= 31


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        (AnnData(np.ones((2, 1))), KeyError, "'n_cells' in `obs`.*tl.aggregate"),
        (pd.DataFrame({"cell_type": ["B"]}), KeyError, r"'n_cells'.*found only \['cell_type'\]"),
        ([], ValueError, r"found shape \(0,\)"),
        ([1, np.nan, 3], ValueError, r"shape \(3,\), 1 of them missing or infinite"),
        ([1, np.inf, 3], ValueError, "1 of them missing or infinite"),
    ],
)
def test_bad_sizes_are_named(sizes, error, message):
    with pytest.raises(error, match=message):
        pl.size(sizes)


def image(ax):
    return np.asarray(ax.images[0].get_array())


def test_fields_are_fractions_of_rows_and_unknown_cells_have_a_column():
    before = FRAME.copy()
    ax = pl.confusion(FRAME.drop(columns="kind_unknown"), "truth", "kind")
    assert texts(ax.get_yticklabels()) == ["a  (4)", "b  (2)", "c  (1)"]
    assert texts(ax.get_xticklabels()) == ["a", "b", "c"]
    np.testing.assert_allclose(image(ax), [[0.75, 0.25, 0], [0, 1, 0], [0, 1, 0]])
    assert sorted(texts(ax.texts)) == [".25", ".75", "1", "1"]
    assert pl.confusion(FRAME, "truth", "kind", ax=ax) is ax
    pd.testing.assert_frame_equal(FRAME, before)
    ax = pl.confusion(AnnData(obs=FRAME), "truth", "kind")
    assert texts(ax.get_xticklabels()) == ["a", "b", "c", "unknown"]
    np.testing.assert_allclose(image(ax)[:, 3], [0.25, 0, 1])


def test_columns_of_cells_are_checked_and_read_alike():
    with pytest.raises(KeyError, match="`truth` 'type' in `obs`.*'kind_unknown', 'truth'"):
        pl.confusion(FRAME, "type", "kind")
    with pytest.raises(ValueError, match="both 'truth' and 'kind', found none"):
        pl.confusion(FRAME.assign(truth=None), "truth", "kind")
    # integers with missing values are the same labels
    given = pd.Series([0, 1, 2] * 9 + [np.nan] * 3)
    ax = pl.confusion(pd.DataFrame({"t": [0, 1, 2] * 10, "p": given}), "t", "p")
    assert texts(ax.get_xticklabels()) == ["0", "1", "2"]
    np.testing.assert_array_equal(image(ax), np.eye(3))
