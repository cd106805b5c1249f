"""Arguments that are whole numbers."""

from numbers import Integral
from typing import Any


def check_whole_number(name: str, value: Any, *, least: int = 1) -> None:
    """Refuse what is no whole number, or too small a one, before any work starts.

    Parameters
    ----------
    name
        Name of the argument.
    value
        What was passed.
    least
        Smallest number that makes sense.

    Raises
    ------
    TypeError, ValueError
        Not a whole number, or one that is too small.
    """
    found = f"Expected `{name}` as a whole number of at least {least}, found {value!r}."
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(found)
    if value < least:
        raise ValueError(found)
