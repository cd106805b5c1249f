import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scmetaq.pl._names import draw_names


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


def test_names_go_to_the_side_away_from_the_nearest_point():
    low, high = names_at(np.array([[0.0, 0.0], [0.0, 1.0]]))
    assert (low.get_va(), high.get_va()) == ("top", "bottom")


def test_names_on_a_line_are_upright():
    position = np.array([[0.0, 0], [0.001, 0], [1, 0]])
    texts = names_at(position, upright=True)
    assert {text.get_rotation() for text in texts} == {90}
    assert [text.get_va() for text in texts] == ["bottom", "top", "bottom"]


def test_names_without_a_free_place_are_left_out():
    assert 0 < len(names_at(np.zeros((10, 2)))) < 10
