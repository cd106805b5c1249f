"""Work in parts: in this process, or on the workers of an active dask.distributed client."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ._progress import with_progress

_WAITING = 2  # parts per thread of the workers that are sent before the first of them is done


def in_parts[S, P, R](
    function: Callable[[S, P], R],
    shared: S,
    parts: Iterable[P],
    *,
    n_parts: int,
    shown_as: str,
    is_local: bool = False,
) -> Iterator[R]:
    """Yield ``function(shared, part)`` of each part, in their order, and show how far it is.

    With an active :class:`distributed.Client` its workers compute, unless ``is_local``: the
    function and what is shared are sent to each once, and parts when their turn comes.
    """
    return with_progress(_results(function, shared, parts, is_local), shown_as, n_parts)


def _results(
    function: Callable[[Any, Any], Any], shared: Any, parts: Iterable[Any], is_local: bool
) -> Iterator[Any]:
    client = None if is_local else _active_client()
    if client is None:
        for part in parts:
            yield function(shared, part)
        return
    # in lists: of a tuple each element would be sent alone
    (everywhere,) = client.scatter([(function, shared)], broadcast=True, hash=False)
    most = _WAITING * max(1, sum(client.nthreads().values()))
    waiting: deque[Any] = deque()
    for part in parts:
        (there,) = client.scatter([part], hash=False)
        waiting.append(client.submit(_apply, everywhere, there, pure=False))
        if len(waiting) == most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _apply(everywhere: tuple[Callable, Any], part: Any) -> Any:
    function, shared = everywhere
    return function(shared, part)


def is_worker() -> bool:
    """Whether this is a task of a worker of dask.distributed."""
    distributed: Any = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def _active_client() -> Any:
    """Client that this process has made; None in a task, which has its part to do."""
    distributed: Any = sys.modules.get("distributed")
    if distributed is None or is_worker():
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None
