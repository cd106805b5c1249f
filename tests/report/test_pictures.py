import base64
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scmetaq.report import _layout, _pictures
from scmetaq.report._labels import summarize_labels


@pytest.fixture(autouse=True)
def _no_screen():
    """Draw without a screen, and with no figure that another test left open."""
    plt.switch_backend("agg")
    plt.close("all")


def svg(picture):
    kind, content = picture.source.split(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


@pytest.fixture
def layout(adata, assignments):
    return _layout.lay_out(adata, assignments["metacell"])


def test_pictures_are_drawings_and_leave_no_figure(adata, assignments, layout):
    labels = adata.obs["cell_type"].astype("category")
    summary = summarize_labels(assignments["metacell"], labels)
    pictures = [
        _pictures.embedding(layout, 60, labels),
        _pictures.size(pd.Series([5, 15, 5, 15])),
        _pictures.purity(summary),
        _pictures.training({"train_loss_epoch": pd.Series([3.0, 2.0, 1.0])}),
    ]
    for picture in pictures:
        assert re.search(r"<svg .*</svg>", svg(picture), re.DOTALL)
        assert picture.alt
        assert picture.caption
    assert plt.get_fignums() == []


def test_the_same_results_give_the_same_picture():
    sizes = pd.Series([5, 15, 5, 15])
    assert _pictures.size(sizes) == _pictures.size(sizes)


def test_too_many_labels_are_not_coloured(layout):
    labels = pd.Series([f"type {i}" for i in range(60)], layout.cells.obs_names, name="fine")
    assert "Grey dots are cells" in _pictures.embedding(layout, 60, labels).caption


def test_a_label_has_the_users_colour_in_all_pictures(adata, assignments, layout):
    labels = adata.obs["cell_type"].astype("category")
    summary = summarize_labels(assignments["metacell"], labels)
    colors = ["#123456", "#654321", "#abcdef"]
    for picture in (
        _pictures.embedding(layout, 60, labels, colors),
        _pictures.purity(summary, colors),
    ):
        assert all(color in svg(picture) for color in colors)


def test_a_sample_is_called_one(adata, assignments, monkeypatch):
    monkeypatch.setattr(_layout, "MAX_CELLS", 25)
    monkeypatch.setattr(_pictures, "MAX_CELLS", 25)
    layout = _layout.lay_out(adata, assignments["metacell"])
    assert "A random 25 of 60 cells" in _pictures.embedding(layout, 60).caption


def test_the_rarest_of_many_labels_are_left_out():
    labels = pd.Series([f"type {i}" for i in range(45) for _ in range(46 - i)], name="fine")
    labels = labels.astype("category")
    summary = summarize_labels(labels.rename("metacell"), labels)
    assert "The 5 rarest labels are left out" in _pictures.purity(summary).caption


def test_curves_that_are_zero_throughout_are_left_out(monkeypatch):
    drawn = {}
    real = _pictures.pl.training

    def training(history):
        drawn.update(history)
        return real(history)

    monkeypatch.setattr(_pictures.pl, "training", training)
    zero = pd.DataFrame({"n_empty_codes_train": np.zeros(3)})
    loss = pd.DataFrame({"train_loss_epoch": [3.0, 2.0, 0.0]})
    _pictures.training({"n_empty_codes_train": zero, "train_loss_epoch": loss})
    assert list(drawn) == ["train_loss_epoch"]
