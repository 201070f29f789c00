"""Order, bounds and errors of what runs on other threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyflow.motion.streams import WriteBehind, ordered_map


def test_ordered_map_keeps_order_and_bound():
    release = {i: threading.Event() for i in range(10)}
    taken = []

    def items():
        for i in range(10):
            taken.append(i)
            yield i

    def work(i):
        release[i].wait(10)
        return i

    with ThreadPoolExecutor(4) as pool:
        results = ordered_map(pool, work, items(), ahead=3)
        for i in (3, 2, 1, 0):
            release[i].set()
        assert next(results) == 0
        assert taken == [0, 1, 2, 3]
        for event in release.values():
            event.set()
        assert list(results) == list(range(1, 10))


def test_ordered_map_raises_at_the_item_that_failed():
    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(pool, lambda i: 1 // (i - 2), range(50), ahead=4)
        assert [next(results), next(results)] == [-1, -1]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_write_behind_runs_in_order():
    done = []
    with WriteBehind(2) as behind:
        for i in range(20):
            behind.submit(done.append, i)
    assert done == list(range(20))


def test_write_behind_starts_nothing_after_a_failure():
    done = []

    def fail():
        raise OSError("disk full")

    def work():
        with WriteBehind(100) as behind:
            behind.submit(done.append, 0)
            behind.submit(fail)
            for i in range(1, 5):
                behind.submit(done.append, i)

    with pytest.raises(OSError, match="disk full"):
        work()
    assert done == [0]


def test_write_behind_writes_what_waits_when_the_caller_fails():
    gate, done = threading.Event(), []

    def work():
        with WriteBehind(100) as behind:
            behind.submit(gate.wait, 10)
            behind.submit(done.append, 1)
            threading.Timer(0.05, gate.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]
