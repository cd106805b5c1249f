"""Where numbers are, which decides how work is best done."""

from torch import Tensor


def on_cpu(values: Tensor) -> bool:
    """Whether values are in the host's memory.

    There, work is saved by a look at the values. A GPU would have done the work before the host had
    its answer.
    """
    return values.device.type == "cpu"
