"""Every key that ``scmetaq`` reads from or writes to AnnData and MuData, spelled once."""

from datetime import datetime, time
from numbers import Integral, Real
from typing import Any, Final

METACELL: Final = "metacell"  # `obs` column with the name of a cell's metacell
MARGIN: Final = "margin"  # column of assignments: best minus second-best similarity to a code
N_CELLS: Final = "n_cells"  # `obs` column of metacells: number of cells
COUNTS: Final = "counts"  # layer of metacells with summed raw counts
LOG1P_MEAN: Final = "log1p_mean"  # layer, on request: means of the log counts of cells
GEOMETRIC_FRACTION: Final = "geometric_fraction"  # layer, on request: fractions by geometric means
WEIGHT: Final = "weight"  # `obs` column of metacells of weighted cells: sum of the weights
FRACTION_SUFFIX: Final = "_fraction"  # of the fraction of the majority category
UNS: Final = "metaq"  # `uns` entry that documents how metacells were made
UNCERTAINTY_SUFFIX: Final = "_uncertainty"  # of the uncertainty of a predicted label
DISTANCE_SUFFIX: Final = "_distance"  # of the distance to the prototype of the label
UNKNOWN_SUFFIX: Final = "_unknown"  # of whether a cell is of an unknown type


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
