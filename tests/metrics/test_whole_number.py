import numpy as np
import pytest

from scmetaq.metrics._whole_number import check_whole_number


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_whole_numbers_pass(value):
    check_whole_number("n", value)


@pytest.mark.parametrize("value", [0, -3, np.int32(0)])
def test_small_numbers_are_refused(value):
    with pytest.raises(ValueError, match="`n` as a whole number of at least 1, found"):
        check_whole_number("n", value)
    check_whole_number("n", value, least=-3)


@pytest.mark.parametrize("value", [1.5, 2.0, "10", None, True, [1]])
def test_other_things_are_refused(value):
    with pytest.raises(TypeError, match="`n` as a whole number of at least 1, found"):
        check_whole_number("n", value)
