from lightning.pytorch.utilities import rank_zero_info


def say(message: str) -> None:
    """Tell the user something where Lightning does, once for all devices."""
    rank_zero_info(message)
