"""Labels as the text that plots write."""

from typing import Any

import numpy as np
import pandas as pd

NO_LABEL = "no label"
"""What plots write for a missing label."""
_LONGEST = 30
"""Characters of a name that fit beside a plot."""


def as_categories(values: Any) -> pd.Categorical:
    """Turn labels into categories that are text, in their order; missing ones stay missing.

    Integers that share a column with missing values arrive as decimal numbers: 7, not 7.0, is
    the name.
    """
    labels = pd.Categorical(values)
    names = list(dict.fromkeys(map(as_name, labels.categories)))
    return pd.Categorical(labels.map(as_name, na_action="ignore"), categories=names)


def as_name(value: object) -> str:
    """Write a label as text; whole numbers have no fraction."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def literal(name: str) -> str:
    """Keep matplotlib from reading what stands between two dollars as mathematics."""
    return name.replace("$", r"\$")


def shorten(name: str) -> str:
    """Leave the middle out of a long name: both of its ends may be what tells it from others."""
    if len(name) <= _LONGEST:
        return name
    half = _LONGEST // 2
    return f"{name[:half].rstrip()}…{name[1 - half :].lstrip()}"
