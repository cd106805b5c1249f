from scmetaq.data._cells import Cells

__all__ = ["Cells"]
