"""Errors of user input: what was expected, what was found, how to fix it, and which argument."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Escape what terminals obey: control characters, but for ends of lines, and marks of order."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class InputError(Exception):
    """Input that cannot be used.

    ``problem`` says what was expected and what was found, in whole sentences, ``fix`` what to do
    about it, in the terms of the Python interface; ``argument`` is that of the public function that
    is to blame, if a single one is, and ``value`` one that would do.
    """

    def __init__(
        self, problem: str, fix: str = "", argument: str | None = None, value: str | None = None
    ):
        super().__init__(problem, fix, argument, value)
        self.problem = problem
        self.fix = fix
        self.argument = argument
        self.value = value

    def __str__(self) -> str:
        return printable(f"{self.problem} {self.fix}".rstrip())


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


def reason(error: Exception) -> str:
    """First line of an error without its full stop, or its type if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


def check_choice(name: str, value: object, choices: Sequence[str | None]) -> None:
    """Refuse a value that is none of the choices, and list them."""
    if value not in choices:
        known = listed(choice for choice in choices if choice is not None)
        raise InputValueError(f"Unknown {name} {value!r}: expected one of {known}.", argument=name)


def check_is_int(name: str, value: object) -> None:
    """Refuse anything but a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputTypeError(f"Expected {name} to be an int, found {value!r}.", argument=name)


def check_int(
    name: str, value: int | None, *, least: int = 1, most: int = 2**31, optional: bool = False
) -> None:
    """Refuse anything but a whole number within limits, or None where it is optional."""
    if value is None and optional:
        return
    check_is_int(name, value)
    if value is not None and value < least:
        problem = f"Expected {name} to be at least {least}, found {value}."
        raise InputValueError(problem, argument=name)
    if value is not None and value > most:
        problem = f"Expected {name} to be at most {most:,}, found {value:,}."
        raise InputValueError(problem, argument=name)


def check_share(name: str, value: float, *, excluded: Collection[float] = ()) -> None:
    """Refuse anything but a number from zero to one, or an end that is excluded."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1 or value in excluded:
        ends = f", but not {' or '.join(map(str, excluded))}" if excluded else ""
        problem = f"Expected {name} between 0 and 1{ends}, found {value!r}."
        raise InputValueError(problem, argument=name)


def check_unique(names: Any, what: str, fix: str, argument: str | None = None) -> None:
    """Refuse names that occur more than once."""
    repeated = names[names.duplicated()].unique()
    if len(repeated):
        problem = f"Expected unique {what}, found {len(repeated)} that occur more than once, e.g."
        raise InputValueError(f"{problem} {repeated[0]!r}.", f"Fix: {fix}.", argument)


def layers_of(adata: Any) -> list[str]:
    """Names of the layers, without None."""
    return sorted(filter(None, adata.layers.keys()))


def check_layer(cells: Any, layer: str | None) -> None:
    """Refuse a layer that an AnnData, or every modality of several, lacks."""
    check_there(cells, layer, layers_of, "layer", "a layer")


def check_there(
    cells: Any, name: str | None, names_of: Callable[[Any], list[str]], argument: str, what: str
) -> None:
    """Refuse a name that an AnnData, or every modality of several, lacks."""
    parts = getattr(cells, "mod", cells)
    parts = parts if isinstance(parts, Mapping) else {None: parts}
    there = {of: names_of(part) for of, part in parts.items()}
    if name is not None and not any(name in names for names in there.values()):
        raise InputKeyError(
            f"Expected `{argument}` to name {what}{'' if None in parts else ' of a modality'}, "
            f"found no {name!r}. There are: {there.get(None, there)}.",
            argument=argument,
        )
