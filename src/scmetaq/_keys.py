"""Every key that ``scmetaq`` reads from or writes to AnnData and MuData, spelled once."""

from datetime import datetime, time
from numbers import Integral, Real
from typing import Any, Final

METACELL: Final = "metacell"
"""``obs`` column with the name of a cell's metacell."""
MARGIN: Final = "margin"
"""Column of assignments: best minus second-best similarity to a code."""
N_CELLS: Final = "n_cells"
"""``obs`` column of metacells: number of cells."""
COUNTS: Final = "counts"
"""Layer of metacells with summed raw counts."""
LOG1P_MEAN: Final = "log1p_mean"
"""Layer of metacells, on request: means of the log counts of their cells."""
GEOMETRIC_FRACTION: Final = "geometric_fraction"
"""Layer of metacells, on request: fractions of counts by geometric means."""
WEIGHT: Final = "weight"
"""``obs`` column of metacells of weighted cells: sum of the weights."""
FRACTION_SUFFIX: Final = "_fraction"
"""Suffix of the column with the fraction of a metacell's majority category."""
UNS: Final = "metaq"
"""``uns`` entry that documents how metacells were made."""
UNCERTAINTY_SUFFIX: Final = "_uncertainty"
"""Suffix of the column with how uncertain a predicted label is."""
DISTANCE_SUFFIX: Final = "_distance"
"""Suffix of the column with the distance of a cell to the prototype of its label."""
UNKNOWN_SUFFIX: Final = "_unknown"
"""Suffix of the column that says whether a cell is of an unknown type."""


def is_bookkeeping(column: object) -> bool:
    """Whether a column of ``obs`` is scvi-tools' own, also one pulled from a modality."""
    return str(column).rpartition(":")[2].startswith("_scvi")


def as_name(value: Any) -> str:
    """A value of a column of names as text that files can hold.

    Whole numbers have no fraction, dates at midnight no time.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    elif isinstance(value, datetime) and value == datetime.combine(value, time()):
        value = value.date()
    elif isinstance(value, Real) and not isinstance(value, Integral):
        number = float(value)
        value = int(number) if number.is_integer() else value
    return str(value).replace("\0", "").encode("utf-8", "replace").decode("utf-8")
