import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scmetaq import pl
from scmetaq.pl._style import PALETTE


@pytest.fixture
def counts():
    """Cells of two batches in four metacells."""
    return pd.DataFrame({"a": [10, 5, 1, 0], "b": [0, 5, 3, 8]}, index=[f"mc{i}" for i in range(4)])


def test_shares_of_each_metacell_are_stacked(counts):
    ax = pl.composition(counts.rename(columns={"a": "_a"}))
    first, second = ax.collections
    box = first.get_datalim(ax.transData)
    assert (box.x0, box.x1) == (0, 4)
    area = [_area(part.get_paths()[0]) for part in (first, second)]
    shares = counts.div(counts.sum(axis=1), axis=0)
    np.testing.assert_allclose(area, shares.sum())
    assert [to_hex(c.get_facecolor()[0]).upper() for c in (first, second)] == list(PALETTE[:2])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["_a", "b"]
    assert ax.get_xlabel() == "4 metacells"


def _area(path):
    x, y = path.vertices[:, 0], path.vertices[:, 1]
    return abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def test_groups_are_parted_and_named(counts):
    groups = pd.Series(["T", "T", "B", "B"], counts.index[::-1])
    ax = pl.composition(counts, groups)
    assert [text.get_text() for text in ax.texts] == ["B", "T"]
    assert [line.get_xdata()[0] for line in ax.lines] == [2]


def test_given_axes_and_colours_are_used(counts):
    ax = pl.composition(counts)
    assert pl.composition(counts, colors=["#ff0000", "#00ff00"], ax=ax) is ax
    assert to_hex(ax.collections[2].get_facecolor()[0]) == "#ff0000"


def test_dollars_in_names_are_no_mathematics(counts):
    groups = pd.Series(["$x$", "$x$", "B", "B"], counts.index)
    ax = pl.composition(counts.set_axis(["$a$", "b"], axis=1), groups)
    texts = [ax.texts[0], ax.get_legend().get_texts()[0]]
    assert [text.get_text() for text in texts] == [r"\$x\$", r"\$a\$"]
    read = [text._preprocess_math(text.get_text()) for text in texts]
    assert read == [("$x$", False), ("$a$", False)]


def test_metacells_without_a_group_are_named_so(counts):
    ax = pl.composition(counts, pd.Series(["T", None, np.nan, "B"], counts.index, dtype=object))
    assert [text.get_text() for text in ax.texts] == ["T", "no label", "B"]


def test_a_plot_keeps_its_width_next_to_many_conditions():
    names = [f"a long sample name {i}" for i in range(40)]
    counts = pd.DataFrame(1, index=range(10), columns=names)
    ax = pl.composition(counts)
    ax.figure.draw_without_rendering()
    assert ax.bbox.width / ax.figure.dpi > 4
    assert len({to_hex(part.get_facecolor()[0]) for part in ax.collections}) == 40
    legend = ax.get_legend().get_window_extent()
    assert legend.x1 <= ax.figure.bbox.x1
    figure, ax = plt.subplots(figsize=(5, 3))
    pl.composition(counts, ax=ax)
    assert figure.get_figwidth() == 5  # figures of the user keep theirs


def test_more_conditions_than_colours_have_no_legend():
    ax = pl.composition(pd.DataFrame(1, index=range(3), columns=range(101)))
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    ("change", "groups", "message"),
    [
        (lambda c: c.replace(5, 0), None, r"cells in each metacell, found shape \(4, 2\)"),
        (lambda c: c.replace(3, -5), None, r"none below zero.*with \[1, -5\] in 'mc2'"),
        (lambda c: c, pd.Series("T", ["mc0"]), "found none for 3 of 4, e.g. 'mc1'"),
        (lambda c: c.set_axis(["a", "a"], axis=1), None, "several of the name 'a'. Sum them"),
    ],
)
def test_bad_input_is_named(counts, change, groups, message):
    with pytest.raises(ValueError, match=message):
        pl.composition(change(counts), groups)
