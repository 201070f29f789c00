"""What every writer has in common."""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from pyflow.io.atomic import PARTIAL_PREFIX
from pyflow.io.output import OutputFile, disk_error, restore
from pyflow.io.pieces import piece_length

# A last axis this short may count channels as well as columns.
_MAX_CHANNELS = 8


class VideoWriter(ABC):
    """Takes frames one batch after the other; a context manager.

    Frames go to a hidden file beside the target, which gets its name when the video is closed. An exception inside the
    ``with`` block leaves the target as it was.

    A format hands `_output` to the library that writes it.

    Parameters
    ----------
    path : str or Path
        Target; its folder must exist.
    resume_at : int, optional
        Keep an interrupted file's hidden remains, and go on after this many of its frames (0: start anew). Only some
        formats can go on.
    snapshot : mapping of str, optional
        What `snapshot` of the interrupted writer returned when it had written so many: its bytes are made to be as
        they were then, and no library sees any others.

    Attributes
    ----------
    frames_written : int
        Frames so far.

    Raises
    ------
    OSError
        The file cannot be created, or the interrupted one not opened.
    ValueError
        The interrupted one is not as it was written.
    """

    def __init__(
        self, path: str | Path, resume_at: int | None = None, snapshot: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.path = Path(path)
        self._partial = self.path.with_name(f"{PARTIAL_PREFIX}{self.path.name}")
        self._keep, self._ended = resume_at is not None, False
        try:
            if not resume_at:  # a link there would have its target overwritten
                self._partial.unlink(missing_ok=True)
            elif self._partial.is_symlink():
                raise OSError(errno.ELOOP, f"{self._partial} is a link, expected the file of an interrupted run")
            elif snapshot is not None:
                restore(self._partial, snapshot)
            self._output = OutputFile(self._partial, self.path, "r+" if resume_at else "w")
        except OSError as error:
            raise disk_error(self.path, error) from error
        if snapshot is not None:
            self._output.settle()
        self.frames_written = 0
        self._frame_shape: tuple[int, int, int] | None = None
        self._dtype: np.dtype | None = None

    @abstractmethod
    def _append(self, frames: np.ndarray) -> None:
        """Write frames (n, H, W, C) of the shape and type of those before."""

    @abstractmethod
    def _close_file(self) -> None:
        """Write everything that is still held back; a second call does nothing."""

    def _flush_file(self) -> None:  # noqa: B027
        """Write what is held back, so that the frames so far can be read."""

    def flush(self) -> None:
        """Hand everything so far to the operating system.

        Raises
        ------
        OSError
            The disk is full or broken; the message names the target, the bytes to write and the bytes free.
        """
        self._check()
        self._flush_file()
        self._check()

    def snapshot(self) -> dict[str, np.ndarray]:
        """Flush, and return what is needed to go on from here; to be kept before `settle` is called.

        Raises
        ------
        OSError
            As for `flush`.
        """
        self.flush()
        return self._output.snapshot()

    def settle(self) -> None:
        """From here on, keep what the last `snapshot` is about, rather than what the one before is about.

        Raises
        ------
        OSError
            As for `flush`.
        """
        self._output.settle()
        self._output.check()

    def write_frames(self, frames: np.ndarray) -> None:
        """Append frames.

        Parameters
        ----------
        frames : array_like, shape (n, H, W, C), (n, H, W), or (H, W) for one frame
            Of the same size, channels and dtype in every call; without the axis C, of a single channel.

        Raises
        ------
        ValueError
            The shape or dtype differs from the frames before; the first frames have no pixels, or three axes of which
            the last could be columns or channels.
        OSError
            The disk is full or broken; the message names the target, the bytes to write and the bytes free. Nothing
            can be written afterwards.
        """
        given = np.asarray(frames)
        known = self._frame_shape
        if given.ndim not in (2, 3, 4) or 0 in given.shape[1 if given.ndim > 2 else 0 :]:
            raise ValueError(f"{self.path}: frames of shape {given.shape}, expected (n, H, W, C), (n, H, W) or (H, W)")
        if known is None and given.ndim == 3 and given.shape[-1] <= _MAX_CHANNELS:
            raise ValueError(
                f"{self.path}: frames of shape {given.shape} are n frames (H, W) or one frame (H, W, C), expected "
                f"(n, H, W, C)"
            )
        frames = given if given.ndim == 4 else given.reshape(-1, *given.shape[-2:], 1)
        if known is not None and (frames.shape[1:] != known or frames.dtype != self._dtype):
            raise ValueError(
                f"{self.path}: found frames of shape {given.shape} {given.dtype}, expected (n, {known[0]}, {known[1]}, "
                f"{known[2]}) {self._dtype} as before"
            )
        self._frame_shape, self._dtype = frames.shape[1:], frames.dtype
        self._check()
        # In pieces: what the disk refuses stays in memory until the piece is done.
        step = piece_length(self._frame_shape, self._dtype)
        for first in range(0, len(frames), step):
            piece = frames[first : first + step]
            self._append(piece)
            self._check()
            self.frames_written += len(piece)

    def _check(self) -> None:
        """Raise an error if the disk has refused anything so far."""
        self._output.check()

    def finish(self) -> None:
        """Write everything, and leave the file under its hidden name until `close`.

        Raises
        ------
        OSError
            The disk is full or broken.
        """
        self._finish(settle=True)
        self._check()

    def close(self) -> None:
        """Finish the file and give it its name; a second call does nothing.

        Raises
        ------
        OSError
            The disk is full or broken, now or in an earlier write; the target stays as it was.
        """
        if self._ended:
            return
        self._ended = True
        try:
            self.finish()
            os.replace(self._partial, self.path)
        except BaseException:
            self._remove_partial()
            raise

    def discard(self) -> None:
        """Give up: the target stays as it was, and nothing else is left unless `resume_at` asks to keep it."""
        self._ended = True
        self._finish()
        self._remove_partial()

    def _finish(self, *, settle: bool = False) -> None:
        if self._output.closed:
            return
        try:
            self._close_file()
            if settle:
                self._output.settle()
        finally:
            self._output.close()

    def _remove_partial(self) -> None:
        if not self._keep:
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
