import numpy as np
import pandas as pd
import pytest

from scmetaq import pl


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


def test_means_are_drawn_and_written(frame):
    compact, accuracy = pl.metrics(frame)
    assert compact.get_title() == "compactness"
    assert [text.get_text() for text in compact.texts] == ["0.300", "0.150"]
    drawn = [np.asarray(points.get_offsets())[0] for points in accuracy.collections]
    np.testing.assert_allclose(drawn, [[0.9, 0], [0.45, 1]])
    assert [t.get_text() for t in compact.get_yticklabels()] == ["ours", "theirs"]


def test_direction_is_told(frame):
    panels = pl.metrics(frame, ["compactness", "unassigned"])
    assert [ax.get_xlabel() for ax in panels] == ["higher is better →", "← lower is better"]


def test_one_method_needs_no_name(frame):
    one = frame[frame["method"] == "ours"].drop(columns="method")
    compact, accuracy = pl.metrics(one)
    assert [t.get_text() for t in compact.get_yticklabels()] == [""]
    low, high = accuracy.get_xlim()
    assert high - low >= 0.18


def test_given_axes_come_back(frame):
    panels = pl.metrics(frame)
    assert (pl.metrics(frame, axes=panels) == panels).all()


def test_bad_input_is_named(frame):
    with pytest.raises(ValueError, match=r"found none of the name \['lisi'\].*'compactness'"):
        pl.metrics(frame, ["lisi"])
    with pytest.raises(ValueError, match="found 1 for 2 metrics"):
        pl.metrics(frame, axes=pl.metrics(frame, ["compactness"]))


def test_each_modality_has_a_panel(frame):
    parts = [frame.iloc[:2].assign(modality=name) for name in ("rna", "adt")]
    together = pd.concat([*parts, frame.iloc[2:3].assign(modality=None)])
    panels = pl.metrics(together.drop(columns="method"))
    assert [ax.get_title() for ax in panels] == [
        "compactness, rna",
        "compactness, adt",
        "balanced accuracy",
    ]


def table(**values):
    rows = [(name, None, value, "lower") for name, value in values.items()]
    return pd.DataFrame(rows, columns=["metric", "metacell", "value", "better"])


@pytest.mark.parametrize(
    ("value", "text"),
    [(10.0, "10"), (1234.5, "1,234"), (0.0002, "0.000200"), (0.25, "0.250"), (99.96, "100")],
)
def test_means_have_three_significant_digits(value, text):
    assert [t.get_text() for t in pl.metrics(table(inv=value), "inv")[0].texts] == [text]


def test_small_numbers_fill_their_axis():
    frame = pd.concat([table(inv=0.028), table(inv=0.030)])
    low, high = pl.metrics(frame, "inv")[0].get_xlim()
    assert 0 < low < 0.028
    assert high < 0.035


def test_axes_of_numbers_that_are_not_negative_do_not_reach_below_zero():
    frame = table(inv=0.0, unassigned=0.0)
    frame = pd.concat([frame, table(inv=0.5)])
    spread, constant = pl.metrics(frame, ["inv", "unassigned"])
    assert spread.get_xlim()[0] == 0
    assert constant.get_xlim() == (0, 1)
    assert pl.metrics(table(inv=-0.5), "inv")[0].get_xlim()[0] < -0.5


def test_one_metric_can_be_named_alone(frame):
    (panel,) = pl.metrics(frame, "compactness")
    assert panel.get_title() == "compactness"
    with pytest.raises(ValueError, match=r"found none of the name \['lisi'\]"):
        pl.metrics(frame, "lisi")


def test_dollars_in_names_of_methods_are_no_mathematics():
    rows = {"metric": "purity", "metacell": None, "value": 0.9, "better": "higher"}
    frame = pd.DataFrame([rows | {"method": "b"}, rows | {"method": "$a$"}])
    (ax,) = pl.metrics(frame, "purity")
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["b", r"\$a\$"]
    plain = frame.assign(method=["b", "a"])
    assert _colors(ax) == _colors(*pl.metrics(plain, "purity"))


def _colors(ax):
    return [tuple(points.get_facecolor()[0]) for points in ax.collections]
