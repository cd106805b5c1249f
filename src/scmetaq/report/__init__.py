"""A page about metacells, in one file that needs nothing else."""

from ._tables import tiles
from ._write_comparison import write_comparison
from ._write_report import write_report

__all__ = ["tiles", "write_comparison", "write_report"]
