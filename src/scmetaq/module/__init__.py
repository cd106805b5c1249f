from ._metaq_module import MetaQModule

__all__ = ["MetaQModule"]
