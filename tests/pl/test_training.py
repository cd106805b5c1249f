import numpy as np
import pandas as pd
import pytest

from scmetaq import pl


@pytest.fixture
def history():
    epochs = pd.RangeIndex(5, name="epoch")
    keys = [
        "train_loss",
        "validation_loss",
        "reconstruction_loss_train",
        "quantized_reconstruction_loss_train",
        "codebook_loss_train",
        "perplexity_train",
        "kl_local_train",
        "train_loss_step",
    ]
    return {key: pd.DataFrame({key: np.arange(5.0) + i}, epochs) for i, key in enumerate(keys)}


def test_keys_are_grouped_into_panels(history):
    panels = pl.training(history)
    assert [ax.get_title() for ax in panels] == [
        "loss",
        "reconstruction loss",
        "codebook loss",
        "codebook perplexity",
    ]
    assert [len(ax.lines) for ax in panels] == [2, 2, 1, 1]


def test_curves_are_the_values(history):
    line = pl.training(history)[2].lines[0]
    np.testing.assert_array_equal(line.get_ydata(), history["codebook_loss_train"].iloc[:, 0])


def test_splits_share_a_colour_and_differ_in_line(history):
    train, validation = pl.training(history)[0].lines
    assert train.get_color() == validation.get_color()
    assert train.get_linestyle() != validation.get_linestyle()
    assert [train.get_label(), validation.get_label()] == ["train", "validation"]


def test_epochs_without_a_value_are_skipped(history):
    history["validation_loss"].iloc[1:4] = np.nan
    assert pl.training(history)[0].lines[1].get_xdata().tolist() == [0, 4]


def test_given_axes_come_back(history):
    panels = pl.training(history)
    assert (pl.training(history, axes=panels) == panels).all()
    with pytest.raises(ValueError, match="found 1 for 4 panels"):
        pl.training(history, axes=panels[:1])


def test_nothing_to_draw():
    with pytest.raises(ValueError, match=r"found the keys \['lr'\]"):
        pl.training({"lr": pd.Series([1.0])})


def test_each_modality_has_a_panel(history):
    for i, kind in enumerate(("rna", "adt", "atac")):
        history[f"reconstruction_loss_{kind}_train"] = pd.Series(np.arange(5.0) + i)
    panels = pl.training(history)
    assert [ax.get_title() for ax in panels] == [
        "loss",
        "reconstruction loss",
        "reconstruction loss, rna",
        "reconstruction loss, adt",
        "reconstruction loss, atac",
        "codebook loss",
        "codebook perplexity",
    ]
    assert [len(ax.lines) for ax in panels] == [2, 2, 1, 1, 1, 1, 1]
    hidden = [ax for ax in panels[0].figure.axes if not ax.get_visible()]
    assert len(hidden) == 1  # two rows of four


def test_one_epoch_is_a_point():
    table = pd.Series([1.0])
    (ax,) = pl.training({"train_loss": table, "validation_loss": pd.Series([2.0, 3.0])})
    one, more = ax.lines
    assert one.get_marker() == "o"
    assert more.get_marker() in ("", "None")
    (ax,) = pl.training({"train_loss": table, "validation_loss": table})
    assert len({line.get_markerfacecolor() for line in ax.lines}) == 2
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [0]
