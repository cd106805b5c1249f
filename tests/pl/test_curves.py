import numpy as np
import pandas as pd
import pytest

from scmetaq import pl


@pytest.fixture
def curve():
    numbers = pd.Index([10, 20, 40, 80], name="n_metacells")
    ratio = [0.7, 0.8, 0.85, 0.9]
    curve = pd.DataFrame({"margin": [0.4, 0.2, 0.1, 0.1], "reconstruction_ratio": ratio}, numbers)
    curve.attrs["suggested"] = 40
    return curve


def test_all_curves_are_drawn(curve):
    assert len(pl.granularity(curve).figure.axes) == 2
    curve["prediction_error"] = [0.5, 0.3, 0.2, 0.4]
    axes = pl.granularity(curve).figure.axes
    for ax, column in zip(axes, curve, strict=True):
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), curve.index)
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), curve[column])
        assert column.replace("_", " ") in ax.get_ylabel()
    assert axes[0].get_xscale() == "log"


def test_the_suggestion_is_marked_and_other_tables_refused(curve):
    ax = pl.granularity(curve)
    assert set(ax.lines[1].get_xdata()) == {40}
    assert [text.get_text() for text in ax.texts] == ["suggested: 40"]
    del curve.attrs["suggested"]
    assert len(pl.granularity(curve).lines) == 1
    assert pl.granularity(curve, ax=ax) is ax
    with pytest.raises(KeyError, match=r"found only \['margin'\].*choose_n_metacells"):
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


KEYS = """train_loss validation_loss reconstruction_loss_train quantized_reconstruction_loss_train
codebook_loss_train perplexity_train kl_local_train train_loss_step"""


@pytest.fixture
def history():
    epochs, keys = pd.RangeIndex(5, name="epoch"), KEYS.split()
    return {key: pd.DataFrame({key: np.arange(5.0) + i}, epochs) for i, key in enumerate(keys)}


def test_keys_are_grouped_into_panels(history):
    panels = pl.training(history)
    titles = ["loss", "reconstruction loss", "codebook loss", "codebook perplexity"]
    assert [ax.get_title() for ax in panels] == titles
    assert [len(ax.lines) for ax in panels] == [2, 2, 1, 1]
    line = panels[2].lines[0]
    np.testing.assert_array_equal(line.get_ydata(), history["codebook_loss_train"].iloc[:, 0])
    assert (pl.training(history, axes=panels) == panels).all()
    with pytest.raises(ValueError, match="found 1 for 4 panels"):
        pl.training(history, axes=panels[:1])
    with pytest.raises(ValueError, match=r"found the keys \['lr'\]"):
        pl.training({"lr": pd.Series([1.0])})


def test_splits_share_a_colour_and_one_epoch_is_a_point(history):
    history["validation_loss"].iloc[1:4] = np.nan
    train, validation = pl.training(history)[0].lines
    assert train.get_color() == validation.get_color()
    assert train.get_linestyle() != validation.get_linestyle()
    assert [train.get_label(), validation.get_label()] == ["train", "validation"]
    assert validation.get_xdata().tolist() == [0, 4]  # epochs without a value are skipped
    table = pd.Series([1.0])
    (ax,) = pl.training({"train_loss": table, "validation_loss": pd.Series([2.0, 3.0])})
    one, more = ax.lines
    assert one.get_marker() == "o"
    assert more.get_marker() in ("", "None")
    (ax,) = pl.training({"train_loss": table, "validation_loss": table})
    assert len({line.get_markerfacecolor() for line in ax.lines}) == 2
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [0]


def test_each_modality_has_a_panel(history):
    for i, kind in enumerate(("rna", "adt", "atac")):
        history[f"reconstruction_loss_{kind}_train"] = pd.Series(np.arange(5.0) + i)
    panels = pl.training(history)
    parts = [f"reconstruction loss{part}" for part in ("", ", rna", ", adt", ", atac")]
    titles = ["loss", *parts, "codebook loss", "codebook perplexity"]
    assert [ax.get_title() for ax in panels] == titles
    assert [len(ax.lines) for ax in panels] == [2, 2, 1, 1, 1, 1, 1]
    hidden = [ax for ax in panels[0].figure.axes if not ax.get_visible()]
    assert len(hidden) == 1  # two rows of four
