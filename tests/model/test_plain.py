import numpy as np
import pandas as pd
import pytest
import torch

from scmetaq.model._plain import plain, restored

VALUES = [
    None,
    True,
    2**70,
    float("nan"),
    "it's\n\ud800",
    (1, [2.5, {"a": None, 3: "b"}]),
    np.array([[1, 2], [3, 4]], np.int8),
    np.array([0.1, np.nan, -np.inf], np.float16),
    np.array([], bool),
    np.array(["2020-01-01", "NaT"], "datetime64[us]"),
    np.array([1, 2], "timedelta64[D]"),
    np.array(["a", "bé"], "U7"),
    np.array(["a", 1, 2.5, None, True], object),
    np.array([pd.Timestamp("2020-01-01", tz="UTC"), pd.Timedelta("1h")], object),
    np.array([pd.Period("2020-02", "M"), pd.Timestamp("2020-01-01").date(), None], object),
    pd.cut([0, 1, 2], 2).categories.to_numpy(),
    pd.DataFrame({"loss": np.array([1.5, 2], object)}, pd.RangeIndex(2, name="epoch")),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back_from_a_file_that_is_read_without_pickle(value, tmp_path):
    torch.save(plain(value), tmp_path / "file")
    found = restored(torch.load(tmp_path / "file", weights_only=True))
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(found, value, check_index_type=False)
    elif isinstance(value, np.ndarray):
        assert found.dtype == value.dtype
        assert found.shape == value.shape
        np.testing.assert_array_equal(found, value)
        assert found.flags.writeable
    else:
        assert type(found) is type(value)
        assert repr(found) == repr(value)


def test_arrays_of_tuples_stay_so():
    values = np.empty(2, object)
    values[:] = [("a", 1), ("b", 2)]
    assert restored(plain(values)).tolist() == values.tolist()


def test_numbers_of_numpy_become_plain_and_other_objects_are_refused():
    assert type(plain(np.float64(0.1))) is float
    assert plain({np.int64(3): np.bool_(True)}) == {3: True}
    with pytest.raises(TypeError, match=r"to save, found .*complex.*Make it text before"):
        plain({"a": [1j]})
