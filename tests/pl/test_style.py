import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from scmetaq.pl._style import (
    PALETTE,
    as_categories,
    draw_legend,
    draw_names,
    label_colors,
    literal,
    shorten,
)


def test_colours_are_different_for_a_hundred_labels_and_chosen_ones_win():
    colors = list(label_colors([str(i) for i in range(100)]).values())
    assert colors[:20] == list(PALETTE)
    rgb = np.array([to_rgb(color) for color in colors])
    apart = np.abs(rgb[:, None] - rgb[None]).max(axis=2)  # L x L
    assert apart[np.triu_indices(100, 1)].min() > 0.05
    assert label_colors(["a", "b"], ["red", "blue"]) == {"a": "red", "b": "blue"}
    assert label_colors(["a", "b"], ["red"]) == dict(zip("ab", PALETTE, strict=False))
    with pytest.raises(ValueError, match="Expected colours such as '#0072B2', found 'reddish'"):
        label_colors(["a", "b"], ["red", "reddish"])


def test_labels_are_text_in_their_order_shortened_without_mathematics():
    labels = as_categories(pd.Series([2.0, 10, np.nan]))
    assert list(labels.categories) == ["2", "10"]
    assert list(labels.isna()) == [False, False, True]
    labels = as_categories(pd.Categorical(["b", None], categories=["b", "c", "a"]))
    assert list(labels.categories) == ["b", "c", "a"]  # absent ones, too
    assert list(as_categories(pd.Series([1, "1", "x"], dtype=object))) == ["1", "1", "x"]
    assert shorten("x" * 30) == "x" * 30
    short = shorten("CD4-positive, alpha-beta memory T cell, CD45RO-positive")
    assert short == "CD4-positive, a…D45RO-positive"
    assert literal("price in $, $5") == r"price in \$, \$5"
    assert literal("CD4") == "CD4"


def drawn(names, *, widen=True):
    ax = plt.subplots(figsize=(5, 3))[1]
    draw_legend(ax, [(Patch(), name) for name in names], n_rows=10, widen=widen)
    return ax


def test_legends_have_every_name_and_only_wide_ones_widen_the_figure():
    texts = drawn(["_a", "b", "c" * 40]).get_legend().get_texts()
    assert [len(text.get_text()) for text in texts] == [2, 1, 30]
    many = [f"a long name {i}" for i in range(40)]
    assert drawn(["a", "b"]).figure.get_figwidth() == 5
    assert drawn(many).figure.get_figwidth() > 7
    assert drawn(many, widen=False).figure.get_figwidth() == 5


def names_at(position, *, upright=False):
    ax = plt.subplots(figsize=(5, 4))[1]
    ax.scatter(position[:, 0], position[:, 1])
    names = pd.Index([f"donor_sample_{i}" for i in range(len(position))])
    draw_names(ax, position, names, upright=upright)
    return ax.texts


@pytest.mark.parametrize("upright", [False, True])
def test_names_do_not_cover_each_other(upright):
    position = np.random.default_rng(0).normal(size=(20, 2))
    if upright:
        position[:, 1] = 0
    texts = names_at(position, upright=upright)
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) > 10
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_names_go_away_from_the_nearest_point_upright_on_a_line_or_are_left_out():
    low, high = names_at(np.array([[0.0, 0.0], [0.0, 1.0]]))
    assert (low.get_va(), high.get_va()) == ("top", "bottom")
    assert 0 < len(names_at(np.zeros((10, 2)))) < 10
    position = np.array([[0.0, 0], [0.001, 0], [1, 0]])
    texts = names_at(position, upright=True)
    assert {text.get_rotation() for text in texts} == {90}
    assert [text.get_va() for text in texts] == ["bottom", "top", "bottom"]
