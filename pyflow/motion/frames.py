"""The frames of a recording as the loop sees them: read in pieces, binned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from pyflow.io.pieces import piece_length
from pyflow.motion.lines import shift_lines
from pyflow.motion.quality import frame_problem
from pyflow.motion.streams import ordered_map

if TYPE_CHECKING:
    from pyflow.io import VideoReader

# Frames are read and written in pieces of about this many bytes: large enough for the disk, small enough to
# hold several. From 4 MiB on NumPy asks for huge pages, each of which the system fills with zeros first.
PIECE_BYTES = 1 << 21

_PIECES_AHEAD = 2


@dataclass(frozen=True)
class FrameSource:
    """Part of a recording: some frames, some channels, averaged in bins.

    Parameters
    ----------
    reader
        A `VideoReader`, or an array (T, H, W, C).
    channels
        Channels to use; None: all.
    bin_size
        Number of successive frames averaged into one. The last bin may hold fewer.
    indices
        The frames to use, counted after binning; None: all.
    line_shift
        Pixels by which odd lines are moved to the right, see `pyflow.motion.lines`.
    """

    reader: VideoReader | np.ndarray
    channels: Sequence[int] | None = None
    bin_size: int = 1
    indices: Sequence[int] | None = None
    line_shift: int = 0

    def __len__(self) -> int:
        return -(-len(self.reader) // self.bin_size) if self.indices is None else len(self.indices)

    @property
    def dtype(self) -> np.dtype:
        """Data type of the frames."""
        return self.reader.dtype if self.bin_size == 1 else np.dtype(np.float32)

    @property
    def frame_rate_hz(self) -> float | None:
        """Frames per second, after binning; None where the recording does not tell, or for some frames only."""
        rate = getattr(self.reader, "frame_rate_hz", None)
        return rate / self.bin_size if rate and self.indices is None else None

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a frame."""
        height, width, channels = self.reader.shape[1:]
        return height, width, channels if self.channels is None else len(self.channels)

    @property
    def piece(self) -> int:
        """Number of frames to read or write at a time."""
        return piece_length(self.reader.shape[1:], self.reader.dtype, PIECE_BYTES // self.bin_size)

    def read(self, first: int, stop: int) -> np.ndarray:
        """Return frames (n, H, W, C) in the recording's dtype, or float32 where they are averages."""
        if self.indices is not None:
            wanted = np.asarray(self.indices[first:stop])
            runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)
            found = [self._read_bins(run[0], run[-1] + 1) for run in runs]
            return found[0] if len(found) == 1 else np.concatenate(found)
        return self._read_bins(first, stop)

    def usable(self, count: int) -> list[np.ndarray]:
        """Return up to `count` frames (H, W, C) from all over the recording, less those that hold no image."""
        frames = [self.read(index, index + 1)[0] for index in spread(len(self), count)]
        return [frame for frame in frames if frame_problem(frame) == 0]

    def _read_bins(self, first: int, stop: int) -> np.ndarray:
        frames = self.reader[first * self.bin_size : min(stop * self.bin_size, len(self.reader))]
        if self.channels is not None:
            frames = frames[..., list(self.channels)]
        frames = shift_lines(frames, self.line_shift)
        if self.bin_size > 1:
            bins = range(0, len(frames), self.bin_size)
            frames = np.stack([frames[i : i + self.bin_size].mean(axis=0, dtype=np.float64) for i in bins])
            frames = frames.astype(np.float32)
        return frames

    def frames(self, pool: Executor, first: int = 0) -> Iterator[np.ndarray]:
        """Yield the frames (H, W, C) from `first` on, read in pieces on a pool's thread, ahead of their use."""
        count = len(self)
        pieces = ordered_map(
            pool,
            lambda i: self.read(i, min(i + self.piece, count)),
            range(first, count, self.piece),
            _PIECES_AHEAD,
        )
        return chain.from_iterable(pieces)


def spread(n_frames: int, count: int) -> np.ndarray:
    """Return up to `count` indices of frames, evenly from all over a recording of `n_frames`; ascending, int (n,)."""
    return np.unique(np.linspace(0, n_frames - 1, count).round().astype(int))
