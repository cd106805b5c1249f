from ._metaq import MetaQModel

__all__ = ["MetaQModel"]
