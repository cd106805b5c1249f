"""Random numbers of models: by the seed of scvi-tools, whatever was drawn before."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate

import torch
from scvi import settings


@contextmanager
def seeded(model: Any) -> Iterator[None]:
    """Draw by ``scvi.settings.seed``, if there is one, and leave torch's generators as they were.

    A model draws on from where it was: its training what follows the weights of its networks.
    """
    seed = settings.seed
    if seed is None:
        yield
        return
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        of_seed, state = model._random_state
        if of_seed == seed:
            torch.set_rng_state(state)
        yield
        model._random_state = seed, torch.get_rng_state()


def draws_by_seed[M, **P, R](
    method: Callable[Concatenate[M, P], R],
) -> Callable[Concatenate[M, P], R]:
    """Let a method of a model draw as in :func:`seeded`."""

    @wraps(method)
    def drawing(self: M, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with seeded(self):
            return method(self, *args, **kwargs)

    return drawing
