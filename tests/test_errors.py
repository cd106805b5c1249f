import pickle

import numpy as np
import pytest

from scmetaq._errors import (
    InputError,
    InputKeyError,
    InputTypeError,
    InputValueError,
    check_choice,
    check_int,
    check_share,
)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(InputValueError, ValueError), (InputTypeError, TypeError), (InputKeyError, KeyError)],
)
def test_an_input_error_is_a_builtin_one_with_a_plain_text_and_the_argument(kind, builtin):
    error = pickle.loads(pickle.dumps(kind("Expected 'a', found 'b'.", "Pass 'a'.", "layer")))
    assert isinstance(error, builtin)
    assert isinstance(error, InputError)
    assert str(error) == "Expected 'a', found 'b'. Pass 'a'."
    assert (error.problem, error.fix, error.argument) == (
        "Expected 'a', found 'b'.",
        "Pass 'a'.",
        "layer",
    )


def test_a_choice_that_there_is_not_is_refused_with_those_there_are():
    check_choice("recipe", "default", ["default", "published"])
    with pytest.raises(
        ValueError, match=r"Unknown recipe 'x': expected one of 'default'\."
    ) as info:
        check_choice("recipe", "x", ["default", None])
    assert info.value.argument == "recipe"


def test_whole_numbers_from_the_least_on_pass_and_none_only_where_it_is_optional():
    for value in (2, np.int64(7)):
        check_int("n_latent", value, least=2)
    check_int("max_cells", None, optional=True)
    with pytest.raises(ValueError, match="n_latent to be at least 2, found 1"):
        check_int("n_latent", 1, least=2)
    for value in (True, 2.0, "2", None):
        with pytest.raises(TypeError, match=f"n_latent to be an int, found {value!r}"):
            check_int("n_latent", value)


def test_shares_lie_between_zero_and_one():
    for value in (0, 0.5, 1, np.float32(1)):
        check_share("evenness", value)
    for value in (-0.1, 1.1, float("nan"), True, "1"):
        with pytest.raises(ValueError, match="evenness between 0 and 1"):
            check_share("evenness", value)
    check_share("level", 1, excluded=[0])
    for value in (0, 0.0, 1):
        with pytest.raises(ValueError, match="level between 0 and 1, but not 0 or 1, found"):
            check_share("level", value, excluded=[0, 1])
