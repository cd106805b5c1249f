import numpy as np
import pandas as pd

from scmetaq.metrics._tidy import stacked, tidy


def test_numbers_of_metacells_come_first_then_those_of_all():
    frame = tidy([pd.Series([0.5, 1.0], [3, 7], name="purity")], {"mixing": 0.25})
    expected = pd.DataFrame(
        {
            "metric": ["purity", "purity", "mixing"],
            "metacell": pd.array(["3", "7", np.nan], pd.StringDtype(na_value=np.nan)),
            "value": [0.5, 1.0, 0.25],
            "better": "higher",
        }
    )
    pd.testing.assert_frame_equal(frame, expected)


def test_tables_are_stacked_with_their_modality():
    frames = {
        None: tidy([], {"mixing": 1.0}),
        "rna": tidy([pd.Series([2.0], ["a"], name="inv")], {}),
    }
    frame = stacked(frames)
    assert frame.columns.tolist() == ["metric", "modality", "metacell", "value", "better"]
    assert frame["modality"].isna().tolist() == [True, False]
    assert frame["better"].tolist() == ["higher", "lower"]
