"""Tools that work on the metacells of any method."""

from scmetaq.tl._aggregate import aggregate

__all__ = ["aggregate"]
