import numpy as np
import pandas as pd
import pytest

from scmetaq import pl


@pytest.fixture
def curve():
    numbers = pd.Index([10, 20, 40, 80], name="n_metacells")
    curve = pd.DataFrame(
        {"margin": [0.4, 0.2, 0.1, 0.1], "reconstruction_ratio": [0.7, 0.8, 0.85, 0.9]}, numbers
    )
    curve.attrs["suggested"] = 40
    return curve


def test_both_curves_are_drawn(curve):
    left = pl.granularity(curve)
    right = left.figure.axes[1]
    for ax, column in ((left, "margin"), (right, "reconstruction_ratio")):
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), curve.index)
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), curve[column])
        assert column.replace("_", " ") in ax.get_ylabel()
    assert left.get_xscale() == "log"


def test_the_curve_that_the_suggestion_comes_from_is_drawn(curve):
    curve["prediction_error"] = [0.5, 0.3, 0.2, 0.4]
    outside = pl.granularity(curve).figure.axes[2]
    np.testing.assert_array_equal(outside.lines[0].get_ydata(), curve["prediction_error"])
    assert outside.get_ylabel() == "prediction error"


def test_the_suggestion_is_marked_and_given_axes_come_back(curve):
    ax = pl.granularity(curve)
    assert set(ax.lines[1].get_xdata()) == {40}
    assert [text.get_text() for text in ax.texts] == ["suggested: 40"]
    del curve.attrs["suggested"]
    assert len(pl.granularity(curve).lines) == 1
    assert pl.granularity(curve, ax=ax) is ax


def test_other_tables_are_refused(curve):
    with pytest.raises(KeyError, match=r"found \['margin'\].*choose_n_metacells"):
        pl.granularity(curve[["margin"]])
    with pytest.raises(TypeError, match="found list"):
        pl.granularity([1, 2])


@pytest.mark.parametrize("step", [0.1, 6e-5, 1e-6])
def test_the_third_axis_keeps_clear_of_the_second(curve, step):
    curve["reconstruction_ratio"] = 0.98365 + step * np.arange(4)
    curve["prediction_error"] = [0.5, 0.3, 0.2, 0.4]
    right, outside = pl.granularity(curve).figure.axes[1:]
    right.figure.draw_without_rendering()
    assert right.yaxis.get_offset_text().get_text() == ""
    label = right.yaxis.label.get_window_extent()
    assert label.x1 < outside.spines["right"].get_window_extent().x0
    assert label.x0 > max(tick.get_window_extent().x1 for tick in right.get_yticklabels())
