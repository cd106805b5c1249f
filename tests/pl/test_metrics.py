import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scmetaq import metrics, pl
from scmetaq.pl._metrics import own_values


@pytest.fixture
def frame():
    """Two methods, one metric per metacell and one of the whole."""
    rows = [
        ("compactness", "mc0", 0.2, "higher"),
        ("compactness", "mc1", 0.4, "higher"),
        ("balanced_accuracy", None, 0.9, "higher"),
        ("unassigned", None, 3, "lower"),
    ]
    one = pd.DataFrame(rows, columns=["metric", "metacell", "value", "better"])
    return pd.concat(
        [one.assign(method="ours"), one.assign(value=one["value"] / 2, method="theirs")]
    )


def test_means_are_drawn_and_written_in_a_panel_for_each_modality(frame):
    compact, accuracy = pl.metrics(frame)
    assert compact.get_title() == "compactness"
    assert [text.get_text() for text in compact.texts] == ["0.300", "0.150"]
    drawn = [np.asarray(points.get_offsets())[0] for points in accuracy.collections]
    np.testing.assert_allclose(drawn, [[0.9, 0], [0.45, 1]])
    assert [t.get_text() for t in compact.get_yticklabels()] == ["ours", "theirs"]
    panels = pl.metrics(frame)
    assert (pl.metrics(frame, axes=panels) == panels).all()
    panels = pl.metrics(frame, ["compactness", "unassigned"])
    assert [ax.get_xlabel() for ax in panels] == ["higher is better →", "← lower is better"]
    (panel,) = pl.metrics(frame, "compactness")
    assert panel.get_title() == "compactness"
    # one method needs no name
    one = frame[frame["method"] == "ours"].drop(columns="method")
    compact, accuracy = pl.metrics(one)
    assert [t.get_text() for t in compact.get_yticklabels()] == [""]
    low, high = accuracy.get_xlim()
    assert high - low >= 0.18
    parts = [frame.iloc[:2].assign(modality=name) for name in ("rna", "adt")]
    together = pd.concat([*parts, frame.iloc[2:3].assign(modality=None)])
    panels = pl.metrics(together.drop(columns="method"))
    titles = ["compactness, rna", "compactness, adt", "balanced accuracy"]
    assert [ax.get_title() for ax in panels] == titles
    for which in ("lisi", ["lisi"]):
        with pytest.raises(ValueError, match=r"found no \['lisi'\] among.*'compactness'"):
            pl.metrics(frame, which)
    with pytest.raises(ValueError, match="found 1 for 2 metrics"):
        pl.metrics(frame, axes=pl.metrics(frame, ["compactness"]))


def table(**values):
    rows = [(name, None, value, "lower") for name, value in values.items()]
    return pd.DataFrame(rows, columns=["metric", "metacell", "value", "better"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(10.0, "10"), (1234.5, "1,234"), (0.0002, "0.000200"), (0.25, "0.250"), (99.96, "100")],
)
def test_means_have_three_significant_digits(value, text):
    assert [t.get_text() for t in pl.metrics(table(inv=value), "inv")[0].texts] == [text]


def test_small_numbers_fill_their_axis_and_none_reaches_below_zero_without_need():
    frame = pd.concat([table(inv=0.028), table(inv=0.030)])
    low, high = pl.metrics(frame, "inv")[0].get_xlim()
    assert 0 < low < 0.028
    assert high < 0.035
    frame = pd.concat([table(inv=0.0, unassigned=0.0), table(inv=0.5)])
    spread, constant = pl.metrics(frame, ["inv", "unassigned"])
    assert spread.get_xlim()[0] == 0
    assert constant.get_xlim() == (0, 1)
    assert pl.metrics(table(inv=-0.5), "inv")[0].get_xlim()[0] < -0.5


def test_dollars_in_names_of_methods_are_no_mathematics():
    rows = {"metric": "purity", "metacell": None, "value": 0.9, "better": "higher"}
    frame = pd.DataFrame([rows | {"method": "b"}, rows | {"method": "$a$"}])
    (ax,) = pl.metrics(frame, "purity")
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["b", r"\$a\$"]
    plain = frame.assign(method=["b", "a"])
    colors = [
        [tuple(points.get_facecolor()[0]) for points in of.collections]
        for of in (ax, *pl.metrics(plain, "purity"))
    ]
    assert colors[0] == colors[1]


@pytest.fixture
def cells():
    """Two pure metacells, of 90 and of 10 cells."""
    rng = np.random.default_rng(0)
    rate = np.repeat([[9, 1, 5, 2, 7, 3], [1, 9, 2, 5, 3, 7]], [90, 10], axis=0)
    obs = pd.DataFrame({"metacell": ["a"] * 90 + ["b"] * 10}, index=np.arange(100).astype(str))
    return AnnData(sp.csr_matrix(rng.poisson(20.0 * rate)).astype(np.float32), obs=obs)


def test_boxes_are_of_metacells_as_compact_as_alone_and_the_mean_is_of_cells(cells):
    frame = metrics.evaluate(cells)
    own = own_values(frame)[frame["metric"] == "compactness"]
    counts = cells.X.toarray()
    log = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    alone = [metrics.compactness(of, np.zeros(len(of))).item() for of in (log[:90], log[90:])]
    np.testing.assert_allclose(own, alone, rtol=1e-5)
    assert (frame.loc[own.index, "value"] > 1).any()
    others = frame["metric"].isin(["n_cells", "inv", "size_max"])
    pd.testing.assert_series_equal(own_values(frame)[others], frame.loc[others, "value"])
    without_sizes = frame[frame["metric"] != "n_cells"]
    pd.testing.assert_series_equal(own_values(without_sizes), without_sizes["value"])
    (panel,) = pl.metrics(frame, "compactness")
    box = panel.patches[0]
    assert 0 < box.get_x() < box.get_x() + box.get_width() <= 1
    mean = frame.loc[own.index, "value"].mean()
    assert panel.collections[0].get_offsets()[0][0] == pytest.approx(mean)


def test_weights_are_those_of_the_method_and_the_modality(cells):
    one = metrics.evaluate(cells)
    cells.obs["metacell"] = ["a"] * 50 + ["b"] * 50
    other = metrics.evaluate(cells)
    parts = [
        frame.assign(method=method, modality=modality)
        for method, frame in (("x", one), ("y", other))
        for modality in ("rna", np.nan)
    ]
    both = pd.concat(parts, ignore_index=True)
    alone = [own_values(frame) for frame in (one, one, other, other)]
    pd.testing.assert_series_equal(own_values(both), pd.concat(alone, ignore_index=True))


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


def test_curves_start_at_zero_unless_some_are_negative():
    fall, negative = pd.Series([100.0, 99.5, 99.0]), pd.Series([-1.0, -2.0])
    (ax,) = pl.training({"train_loss": fall, "validation_loss": fall + 1})
    low, high = ax.get_ylim()
    assert low == 0
    assert high > 101
    (ax,) = pl.training({"train_loss": fall, "validation_loss": negative})
    assert ax.get_ylim()[0] < -2


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
