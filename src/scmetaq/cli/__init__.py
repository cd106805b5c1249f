"""The command ``scmetaq``: thin over the public functions."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, by default the words that it was called with, and leave."""
    try:
        from ._app import run
    except KeyboardInterrupt:
        sys.stderr.write("Error: Stopped before all results were written.\n")
        sys.exit(130)
    run(arguments)
