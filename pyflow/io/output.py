"""A file that cannot fail in the middle of somebody else's write."""

import contextlib
import errno
import functools
import io
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import numpy as np

# No space, no quota, larger than files may be; numpy tells of a short write without a number.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)


_BLOCK = 1 << 20  # bytes that have a checksum of their own in a snapshot


def disk_error(path: Path, error: OSError, needed: int | None = None) -> OSError:
    """Return an error that names a file that could not be written, what was missing and what is free.

    Parameters
    ----------
    path
        The file, under the name that the user knows.
    error
        What the operating system said.
    needed
        Bytes that were not written, where that is known.
    """
    free = ""
    if error.errno in _FULL:
        missing = "" if needed is None else f"{needed} bytes to write, "
        with contextlib.suppress(OSError):  # the folder itself may be gone
            free = f": {missing}{shutil.disk_usage(path.parent).free} bytes free"
    return OSError(error.errno, f"could not write {path}: {error.strerror or error}{free}")


def undisturbed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function end before a signal is answered; a Ctrl-C is raised when it has.

    Python answers signals between two of its own instructions, on the main thread, and those of an `OutputFile` run in
    the middle of HDF5: a KeyboardInterrupt there is a failed write, and the process dies of it. So whatever makes HDF5
    write to an `OutputFile` runs on another thread.
    """

    @functools.wraps(function)
    def elsewhere(*arguments: Any, **named: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return function(*arguments, **named)
        outcome: Future[Any] = Future()
        call = functools.partial(function, *arguments, **named)
        try:
            threading.Thread(target=_settle, args=(outcome, call), name="undisturbed").start()
            return outcome.result()
        except BaseException:
            while not (outcome.cancel() or outcome.done()):  # an interrupt; the thread may be about to start
                with contextlib.suppress(KeyboardInterrupt):
                    wait([outcome])
            raise
        finally:
            del outcome  # it holds the exception, whose traceback holds this frame

    return elsewhere


def _settle(outcome: Future[Any], call: Callable[[], Any]) -> None:
    """Let a future have what a call returns or raises, unless nobody waits for it any more."""
    if outcome.set_running_or_notify_cancel():
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            del outcome, call  # as above: what holds a file of HDF5 must not wait for the garbage collector


class OutputFile(io.RawIOBase):
    """A file for writing and reading that keeps what the disk refuses in memory and says so afterwards.

    HDF5 cannot go on, nor let go of what it holds, once a write has failed: the process dies of it. Here writes always
    succeed for the library that makes them. From the first one that the disk refuses, nothing reaches the disk any
    more, so that it keeps a state from before, and reads find what was written. Whoever hands data to the library
    does so in a function that is `undisturbed`, and calls `check` after each piece.

    A process may be killed between any two writes, and HDF5 neither ends nor survives on every mixture of old and new
    bytes. So those of a `snapshot` stay on the disk as they were, from `settle` to `settle`: what is written over them
    waits in memory, what is added behind them does not. With the snapshot, `restore` makes the file what it was.

    Parameters
    ----------
    path
        The file on disk.
    target
        The name that it will have, for messages.
    mode : {"w", "r+"}
        Start anew, or go on in a file that exists.

    Raises
    ------
    OSError
        The file cannot be opened.
    """

    def __init__(self, path: Path, target: Path, mode: str = "w") -> None:
        super().__init__()
        self._target = target
        self._file = open(path, {"w": "w+b", "r+": "r+b"}[mode], buffering=0)  # noqa: SIM115
        self._size = os.fstat(self._file.fileno()).st_size
        self._position = 0
        self._error: OSError | None = None
        self._refused: list[tuple[int, bytes]] = []
        self._fixed = 0  # bytes, from the start, that are not changed on the disk
        self._held: list[tuple[int, bytes]] = []
        self._sums: list[int] = []  # of each block, as it was at the last snapshot
        self._dirty: set[int] = set()

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return what `restore` needs to give the file its present bytes again, whatever is written from now on."""
        n_blocks = -(-self._size // _BLOCK)
        del self._sums[n_blocks:]
        for block in sorted({*self._dirty, *range(len(self._sums), n_blocks)}):
            if block < n_blocks:
                self._position = block * _BLOCK
                content = bytearray(_BLOCK)
                count = self.readinto(memoryview(content))
                self._sums[block : block + 1] = [zlib.crc32(memoryview(content)[:count])]
        self._dirty.clear()
        return {
            "size": np.int64(self._size),
            "sums": np.array(self._sums, np.uint32),
            "held": np.frombuffer(b"".join(data for _, data in self._held), np.uint8),
            "places": np.array([(at, len(data)) for at, data in self._held], np.int64).reshape(-1, 2),
        }

    def settle(self) -> None:
        """Write what was held back, and hold back from now on what would change the bytes so far."""
        self._fixed, held, self._held = 0, self._held, []
        position = self._position
        for self._position, data in held:
            self.write(data)
        self._position = position
        self._fixed = self._size

    def check(self) -> None:
        """Raise an error if the disk has refused anything so far.

        Raises
        ------
        OSError
            Naming the target, the bytes to write and the bytes free.
        """
        if self._error is not None:
            needed = sum(len(data) for _, data in self._refused) or None
            raise disk_error(self._target, self._error, needed) from self._error

    def readable(self) -> bool:
        """It can be read."""
        return True

    def writable(self) -> bool:
        """It can be written."""
        return True

    def seekable(self) -> bool:
        """It has a position."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte, counted from the start, the position or the end; return it counted from the start."""
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def write(self, data: bytes | memoryview) -> int:
        """Write all bytes; return their number."""
        view = memoryview(data).cast("B")
        self._dirty.update(range(self._position // _BLOCK, -(-(self._position + len(view)) // _BLOCK)))
        written = max(0, min(len(view), self._fixed - self._position)) if self._error is None else 0
        if written:
            self._held.append((self._position, bytes(view[:written])))
        try:
            if self._error is None:
                self._file.seek(self._position + written)
            while self._error is None and written < len(view):
                written += self._file.write(view[written:])
        except OSError as error:
            self._error = error
        if written < len(view):
            self._refused.append((self._position + written, bytes(view[written:])))
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def readinto(self, buffer: memoryview) -> int:
        """Read the bytes at the position; return their number."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        view[:count] = bytes(count)  # what lies beyond the end of what is on disk is zero, as in every file
        done = 0
        self._file.seek(self._position)
        while done < count and (found := self._file.readinto(view[done:count])):
            done += found
        for at, data in (*self._held, *self._refused):
            first, last = max(at, self._position), min(at + len(data), self._position + count)
            if first < last:
                view[first - self._position : last - self._position] = data[first - at : last - at]
        self._position += count
        return count

    def truncate(self, size: int | None = None) -> int:
        """Change the size in bytes; return it."""
        before, self._size = self._size, self._position if size is None else size
        self._dirty.update(range(min(before, self._size) // _BLOCK, -(-max(before, self._size) // _BLOCK)))
        try:
            if self._error is None:
                self._file.truncate(max(self._size, self._fixed))
        except OSError as error:
            self._error = error
        return self._size

    def close(self) -> None:
        """Close the file, with everything on disk; errors are kept for `check`."""
        if not self.closed:
            try:
                if self._error is None:
                    os.fsync(self._file.fileno())
            except OSError as error:
                self._error = error
            try:
                self._file.close()
            except OSError as error:
                self._error = self._error or error
        super().close()

    def __exit__(self, *exception: object) -> None:
        self.close()
        if exception[0] is None:
            self.check()


def restore(path: Path, snapshot: Mapping[str, np.ndarray]) -> None:
    """Give the file of a process that was killed the bytes that it had at a snapshot.

    Parameters
    ----------
    path
        The file.
    snapshot
        From `OutputFile.snapshot`; the file's `settle` was called after it, or not, or did not end.

    Raises
    ------
    ValueError
        The bytes on the disk are others.
    OSError
        The file cannot be read or written.
    """
    size, sums = int(snapshot["size"]), snapshot["sums"]
    with open(path, "r+b") as file:
        found = os.fstat(file.fileno()).st_size
        if found < size:
            raise ValueError(f"{path}: found {found} bytes, expected {size}")
        file.truncate(size)
        first = 0
        for at, length in snapshot["places"].tolist():
            file.seek(at)
            file.write(snapshot["held"][first : first + length].tobytes())
            first += length
        file.seek(0)
        if [zlib.crc32(file.read(_BLOCK)) for _ in sums] != sums.tolist():
            raise ValueError(f"{path} is not as it was written")
