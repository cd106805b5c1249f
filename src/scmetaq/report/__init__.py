"""A page about metacells, in one file that needs nothing else."""

from ._tables import tiles
from ._write_report import write_report

__all__ = ["tiles", "write_report"]
