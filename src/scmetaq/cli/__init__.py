"""The command ``scmetaq``: thin over the public functions."""

from ._app import main

__all__ = ["main"]
