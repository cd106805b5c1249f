"""How numbers get in: modalities, checks of user input, statistics of a reference sample."""

from ._demo import demo

__all__ = ["demo"]
