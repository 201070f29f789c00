"""Do several things at once and keep their order: read ahead, register many frames, write behind.

Everything runs on threads of this process (the kernels release the interpreter lock). An exception on any
thread surfaces in the caller at the next result, and nothing that would come after it is written.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Apply a function on a pool's threads and yield the results in the order of the items.

    Parameters
    ----------
    pool
        Where the function runs.
    function
        Called with each item.
    items
        Taken from the caller's thread, not faster than results are consumed.
    ahead
        Largest number of results that are computed, or being computed, beyond the one that is yielded.

    Raises
    ------
    Exception
        Whatever the function or the iteration over `items` raises.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def surrounded(items: Iterable[Item], radius: int, wait: bool = True) -> Iterator[list[Item | None]]:
    """Yield each item in the middle of `radius` neighbours on each side, None beyond the ends.

    Without `wait` each is yielded as soon as it is there, as the last one.
    """
    later = radius if wait else 0
    held: deque[Item | None] = deque([None] * radius)
    for item in chain(items, [None] * later):
        held.append(item)
        if len(held) > radius + later:
            yield [*held, *[None] * (radius - later)]
            held.popleft()


def windows(
    frames: Iterable[Item], radius: int, first: int = 0, start: int = 0, wait: bool = True
) -> Iterator[list[Item]]:
    """Yield each frame in the middle of its neighbours in time, mirrored at the ends, the end frames repeated.

    Parameters
    ----------
    frames
        In order; their number need not be known.
    radius
        Number of neighbours on each side.
    first
        Index of the first of `frames`: 0, or at most `start` - `radius`.
    start
        Index of the first frame that is yielded.
    wait
        Whether a frame waits for those after it. False: each is yielded as if it were the last.
    """
    held: dict[int, Item] = {}
    count, delay = first, radius if wait else 0

    def around(t: int) -> list[Item]:
        mirrored = (i % (2 * count) for i in range(t - radius, t + radius + 1))
        return [held[i if i < count else 2 * count - 1 - i] for i in mirrored]

    for frame in frames:
        held[count] = frame
        count += 1
        if (t := count - 1 - delay) >= start:
            yield around(t)
            held.pop(t - radius, None)
    for t in range(max(start, count - delay), count):
        yield around(t)


class WriteBehind:
    """Runs jobs one after the other on a thread of its own; after one that failed, no other is started.

    Parameters
    ----------
    depth
        Largest number of jobs that wait; `submit` blocks while there are more.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._pending: deque[Future[None]] = deque()
        self._intact = True

    def submit(self, job: Callable[..., Any], *arguments: Any) -> None:
        """Queue a call; raises what an earlier one raised."""
        self._pending.append(self._pool.submit(self._run, job, *arguments))
        while len(self._pending) > self._depth:
            self._pending.popleft().result()

    def _run(self, job: Callable[..., Any], *arguments: Any) -> None:
        if self._intact:
            self._intact = False
            job(*arguments)
            self._intact = True

    def wait(self) -> None:
        """Wait until all jobs are done; raises what one of them raised."""
        while self._pending:
            self._pending.popleft().result()

    def __enter__(self) -> "WriteBehind":
        return self

    def __exit__(self, *exception: Any) -> None:
        try:
            if exception[0] is None:
                self.wait()
        finally:
            self._pool.shutdown()  # what is queued is worth keeping, also when the caller failed
