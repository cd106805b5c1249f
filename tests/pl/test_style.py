import numpy as np
import pytest
from matplotlib.colors import to_rgb

from scmetaq.pl._style import PALETTE, jitter, label_colors, new_axes


def test_colours_are_different_for_a_hundred_labels():
    colors = list(label_colors([str(i) for i in range(100)]).values())
    assert colors[:20] == list(PALETTE)
    rgb = np.array([to_rgb(color) for color in colors])
    apart = np.abs(rgb[:, None] - rgb[None]).max(axis=2)  # L x L
    assert apart[np.triu_indices(100, 1)].min() > 0.05


def test_chosen_colours_are_checked():
    with pytest.raises(ValueError, match="Expected colours such as '#0072B2', found 'reddish'"):
        label_colors(["a", "b"], ["red", "reddish"])


def test_chosen_colours_win_if_there_are_enough():
    assert label_colors(["a", "b"], ["red", "blue"]) == {"a": "red", "b": "blue"}
    assert label_colors(["a", "b"], ["red"]) == dict(zip("ab", PALETTE, strict=False))


def test_given_axes_are_used():
    ax = new_axes(None)
    assert new_axes(ax) is ax


def test_jitter_fills_its_band_and_repeats():
    offsets = np.array(jitter(50, 0.3))
    assert abs(offsets).max() <= 0.3
    assert len(np.unique(offsets)) == 50
    assert jitter(50, 0.3) == offsets.tolist()
