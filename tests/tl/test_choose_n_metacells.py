import numpy as np
import pandas as pd
import pytest

from scmetaq import tl


class Cuts:
    """A model whose table is known."""

    n_metacells = 100

    def __init__(self, errors, standard_error=0.01):
        self.errors, self.standard_error = errors, standard_error

    def get_granularity_report(self, n_metacells):
        self.asked = n_metacells
        table = {"prediction_error": self.errors, "prediction_error_se": self.standard_error}
        return pd.DataFrame(table, index=pd.Index(n_metacells, name="n_metacells"))


@pytest.mark.parametrize(
    ("errors", "suggested", "reached"),
    [
        ([4, 3, 2, 1], 80, False),
        ([4, 3, 1, 2], 40, True),
        ([4, 1.009, 1, 2], 20, True),  # within a standard error of the lowest
        ([4, 1.011, 1, 2], 40, True),
        ([4, 3, 1.005, 1], 40, False),
    ],
)
def test_smallest_number_within_a_standard_error_of_the_lowest(errors, suggested, reached):
    curve = tl.choose_n_metacells(Cuts(errors), [10, 20, 40, 80])
    assert curve.attrs["suggested"] == suggested
    assert curve.attrs["reached"] == reached


def test_the_advice_says_what_to_do_also_where_the_grid_ends_too_early():
    def advice(errors, grid):
        return tl.choose_n_metacells(Cuts(errors), grid).attrs["advice"]

    assert advice([2, 1, 3], [10, 20, 40]) == (
        "More than 20 metacells describe the cells no better: model.get_metacells(n_metacells=20)."
    )
    assert "up to 40 metacells, the end of the grid: pass a grid up to the 100 of the model" in (
        advice([3, 2, 1], [10, 20, 40])
    )
    assert "train a model with more, such as n_metacells=200" in advice([3, 2, 1], [10, 20, 100])


def test_default_grid_spans_a_factor_of_fifty_evenly_in_logarithms():
    model = Cuts(np.arange(19)[::-1])
    tl.choose_n_metacells(model)
    assert model.asked[0] == 2
    assert model.asked[-1] == 100
    assert model.asked == sorted(set(model.asked))
    large = np.array(model.asked[8:])
    assert np.ptp(np.log(large[1:] / large[:-1])) < 0.2


def test_of_a_trained_model_and_of_nothing_else(model):
    curve = tl.choose_n_metacells(model)
    pd.testing.assert_frame_equal(curve, model.get_granularity_report([*range(2, 11)]))
    assert curve.attrs["suggested"] in curve.index
    with pytest.raises(TypeError, match="Expected a trained MetaQModel, found dict"):
        tl.choose_n_metacells({})
    with pytest.raises(TypeError, match="`grid` as a list of numbers of metacells, found 5"):
        tl.choose_n_metacells(Cuts([1, 2]), 5)
