"""Errors of user input: what was expected, what was found, how to fix it, and which argument."""

from collections.abc import Collection, Sequence
from numbers import Real
from typing import Any

import numpy as np


class InputError(Exception):
    """Input that cannot be used.

    Parameters
    ----------
    problem
        What was expected and what was found, in whole sentences.
    fix
        What to do about it, in the terms of the Python interface.
    argument
        Name of the argument of the public function; None where no single one is to blame.
    """

    def __init__(self, problem: str, fix: str = "", argument: str | None = None):
        super().__init__(problem, fix, argument)
        self.problem = problem
        self.fix = fix
        self.argument = argument

    def __str__(self) -> str:
        return f"{self.problem} {self.fix}".rstrip()


class InputValueError(InputError, ValueError):
    """A value that cannot be used."""


class InputTypeError(InputError, TypeError):
    """A value of another type."""


class InputKeyError(InputError, KeyError):
    """A name of something that does not exist."""

    __str__ = InputError.__str__


class InputWarning(InputError, UserWarning):  # noqa: N818 - it is a warning
    """Input that can be used, but may not be what was meant."""


def listed(names: Any) -> str:
    """Names in quotes, or the word none."""
    return ", ".join(map(repr, names)) or "none"


def check_choice(name: str, value: object, choices: Sequence[str | None]) -> None:
    """Refuse a value that is none of the choices, and list them."""
    if value not in choices:
        known = listed(choice for choice in choices if choice is not None)
        raise InputValueError(f"Unknown {name} {value!r}: expected one of {known}.", argument=name)


def check_is_int(name: str, value: object) -> None:
    """Refuse anything but a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputTypeError(f"Expected {name} to be an int, found {value!r}.", argument=name)


def check_int(name: str, value: int | None, *, least: int = 1, optional: bool = False) -> None:
    """Refuse anything but a whole number of at least ``least``, or None where it is optional."""
    if value is None and optional:
        return
    check_is_int(name, value)
    if value is not None and value < least:
        raise InputValueError(
            f"Expected {name} to be at least {least}, found {value}.", argument=name
        )


def check_share(name: str, value: float, *, excluded: Collection[float] = ()) -> None:
    """Refuse anything but a number from zero to one, or an end that is excluded."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1 or value in excluded:
        ends = f", but not {' or '.join(map(str, excluded))}" if excluded else ""
        problem = f"Expected {name} between 0 and 1{ends}, found {value!r}."
        raise InputValueError(problem, argument=name)
