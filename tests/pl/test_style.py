import numpy as np

from scmetaq.pl._style import PALETTE, jitter, label_colors, new_axes


def test_colours_are_different_for_twenty_labels():
    labels = [str(i) for i in range(20)]
    assert len(set(label_colors(labels).values())) == 20
    assert label_colors([*labels, "20"])["20"] == PALETTE[0]


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
