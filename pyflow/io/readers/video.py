"""What every reader has in common."""

import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from pyflow.io.pieces import piece_length

# Of the files of one recording, so many stay open.
_MOST_OPEN = 16


class VideoReader(ABC):
    """A video as an array ``(T, H, W, C)`` that is read when it is indexed; a context manager.

    A format implements `_read` and sets the attributes. One thread at a time may read.

    Attributes
    ----------
    path : Path or None
        File it comes from, for messages; None in memory.
    shape : tuple of int
        (T, H, W, C); C is 1 for a single channel.
    dtype : dtype
        Of the frames.
    frame_rate_hz : float or None
        Frames per second; None where the file does not say.
    n_planes, plane : int, int or None
        Planes of the recording, and which one this is.
    buffer_size : int or None
        Frames of a batch, by iteration and `read_batch`; None: a few megabytes.
    origin : mapping
        Where what was found was read from: a fact, such as ``"axes"``, and a sentence.
    """

    path: Path | None
    shape: tuple[int, int, int, int]
    dtype: np.dtype
    frame_rate_hz: float | None = None
    n_planes: int = 1
    plane: int | None = None
    buffer_size: int | None = None
    origin: Mapping[str, str] = MappingProxyType({})
    _next_of_batch: int = 0

    @abstractmethod
    def _read(self, indices: np.ndarray) -> np.ndarray:
        """Frames (n, H, W, C) at valid, non-negative indices, in a new array."""

    def close(self) -> None:  # noqa: B027
        """Let go of the file, where there is one."""

    def rest(self) -> None:  # noqa: B027
        """Let go of the file until it is read again, where that can be done: there may be very many."""

    @property
    def frame_count(self) -> int:
        """Number of frames T."""
        return self.shape[0]

    @property
    def height(self) -> int:
        """Rows H of a frame."""
        return self.shape[1]

    @property
    def width(self) -> int:
        """Columns W of a frame."""
        return self.shape[2]

    @property
    def n_channels(self) -> int:
        """Channels C."""
        return self.shape[3]

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path or 'in memory'} {self.shape} {self.dtype}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getitem__(self, key: Any) -> np.ndarray:
        """Index as a numpy array ``(T, H, W, C)``.

        The first axis takes an integer, a slice, a list of integers or a boolean mask; the others integers and slices.

        Raises
        ------
        IndexError
            Out of range, or more axes than four.
        TypeError
            Another kind of index.
        """
        frames, *others = self._expand(key if isinstance(key, tuple) else (key,))
        if any(not isinstance(other, slice) and not hasattr(other, "__index__") for other in others):
            raise TypeError(f"{self._name}: only the first axis can be indexed by a list, got {key!r}")
        if isinstance(frames, slice):
            return self._read(np.arange(*frames.indices(len(self))))[(slice(None), *others)]
        if hasattr(frames, "__index__") and not isinstance(frames, np.ndarray):
            return self.read_frames([operator.index(frames)])[(0, *others)]
        return self.read_frames(frames)[(slice(None), *others)]

    def _expand(self, key: tuple) -> tuple:
        """Replace an Ellipsis by the slices it stands for."""
        places = [place for place, index in enumerate(key) if index is Ellipsis]
        if places:
            missing = (slice(None),) * (5 - len(key))
            key = (*key[: places[0]], *missing, *key[places[0] + 1 :])
        if len(places) > 1 or len(key) > 4:
            raise IndexError(f"{self._name}: too many indices for (T, H, W, C)")
        return key or (slice(None),)

    def read_frames(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read frames in the order given; negative ones count from the end.

        Parameters
        ----------
        indices : sequence of int, or mask (T,) of bool
            Which frames.

        Returns
        -------
        ndarray, shape (n, H, W, C)

        Raises
        ------
        IndexError
            An index is out of range, or a mask has another length.
        TypeError
            Not integers.
        """
        indices = np.asarray(indices)
        if indices.dtype == bool:
            if indices.shape != (len(self),):
                raise IndexError(f"{self._name}: mask of shape {indices.shape} for {len(self)} frames")
            indices = np.flatnonzero(indices)
        if indices.size == 0:
            indices = indices.astype(int)
        if indices.ndim != 1 or indices.dtype.kind not in "ui":
            raise TypeError(f"{self._name}: frame indices must be a list of integers")
        outside = (indices < -len(self)) | (indices >= len(self))
        if outside.any():
            raise IndexError(f"{self._name}: frame {indices[outside][0]} of {len(self)} frames")
        return self._read(np.where(indices < 0, indices + len(self), indices))

    def batches(self, size: int, start: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the frames from `start` on in pieces.

        Parameters
        ----------
        size : int
            Frames per piece; the last may have fewer.
        start : int
            First frame.

        Yields
        ------
        first : int
            Index of the piece's first frame.
        frames : ndarray, shape (n, H, W, C)

        Raises
        ------
        ValueError
            `size` is not positive.
        """
        if size < 1:
            raise ValueError(f"size is {size}, expected 1 or more")
        for first in range(start, len(self), size):
            yield first, self._read(np.arange(first, min(first + size, len(self))))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all frames in batches ``(n, H, W, C)``, which writers take as they are; see `buffer_size`."""
        for _, frames in self.batches(self._batch_length):
            yield frames

    def has_batch(self) -> bool:
        """Tell whether `read_batch` has frames left."""
        return self._next_of_batch < len(self)

    def read_batch(self) -> np.ndarray:
        """Read the frames after those of the call before; see `buffer_size`.

        Returns
        -------
        ndarray, shape (n, H, W, C)
            The last batch may have fewer frames.

        Raises
        ------
        EOFError
            None are left.
        """
        if not self.has_batch():
            raise EOFError(f"{self._name}: all {len(self)} frames were read; reset() begins again")
        first = self._next_of_batch
        frames = self._read(np.arange(first, min(first + self._batch_length, len(self))))
        self._next_of_batch = first + len(frames)
        return frames

    def reset(self) -> None:
        """Let `read_batch` begin again with the first frame."""
        self._next_of_batch = 0

    @property
    def _batch_length(self) -> int:
        return self.buffer_size or piece_length(self.shape[1:], self.dtype)

    @property
    def _name(self) -> str:
        return str(self.path or "video in memory")


class ArrayReader(VideoReader):
    """A video in memory (or memory mapped).

    Parameters
    ----------
    frames : array_like, shape (T, H, W) or (T, H, W, C)
        The video.
    path : Path, optional
        Where it comes from, for messages.

    Raises
    ------
    ValueError
        Other dimensions, or no pixels.
    TypeError
        Not real numbers.
    """

    def __init__(self, frames: np.ndarray, path: Path | None = None) -> None:
        frames = np.asanyarray(frames)
        name = path or "video in memory"
        if frames.ndim not in (3, 4) or 0 in frames.shape:
            raise ValueError(f"{name}: shape {frames.shape}, expected (T, H, W) or (T, H, W, C) with pixels")
        if frames.dtype.kind not in "buif":
            raise TypeError(f"{name}: dtype {frames.dtype}, expected real numbers")
        self.path = path
        self._frames = frames if frames.ndim == 4 else frames[..., np.newaxis]
        self.shape, self.dtype = self._frames.shape, self._frames.dtype

    def _read(self, indices: np.ndarray) -> np.ndarray:
        return np.array(self._frames[as_slice(indices)])


class _SeveralReaders(VideoReader):
    """Several videos as one: what they share is the first one's, and they are closed together."""

    def _begin(self, readers: list[VideoReader], what: str, how: str) -> None:
        first = readers[0]
        self._readers = readers
        self.path, self.dtype = first.path, first.dtype
        self.frame_rate_hz, self.n_planes, self.plane = first.frame_rate_hz, first.n_planes, first.plane
        self.origin = {**first.origin, what: f"{len(readers)} files, {how}"}

    def rest(self) -> None:
        """Let go of all files until they are read again."""
        for reader in self._readers:
            reader.rest()

    def close(self) -> None:
        """Close all files."""
        for reader in self._readers:
            reader.close()


class ChannelReader(_SeveralReaders):
    """Several videos of one size as the channels of one.

    Parameters
    ----------
    readers : list of VideoReader
        In the order of the channels; closed together with this one.

    Raises
    ------
    ValueError
        Their sizes or types differ.
    """

    def __init__(self, readers: list[VideoReader]) -> None:
        first = readers[0]
        for other in readers[1:]:
            if other.shape[:3] != first.shape[:3] or other.dtype != first.dtype:
                raise ValueError(
                    f"channels differ: {first.path} is {first.shape[:3]} {first.dtype}, "
                    f"{other.path} is {other.shape[:3]} {other.dtype}; if they follow each other in time, say "
                    'files="time"'
                )
        self._begin(readers, "channels", "one or more channels each")
        self.shape = (*first.shape[:3], sum(reader.n_channels for reader in readers))

    def _read(self, indices: np.ndarray) -> np.ndarray:
        return np.concatenate([reader._read(indices) for reader in self._readers], axis=-1)


class JoinedReader(_SeveralReaders):
    """Several videos one after the other in time.

    Parameters
    ----------
    readers : list of VideoReader
        In their order; closed together with this one.

    Raises
    ------
    ValueError
        Their frames differ in size, channels or type.
    """

    def __init__(self, readers: list[VideoReader]) -> None:
        first = readers[0]
        for other in readers[1:]:
            if other.shape[1:] != first.shape[1:] or other.dtype != first.dtype:
                raise ValueError(
                    f"files of one recording differ: frames (H, W, C) of {first.path} are {first.shape[1:]} "
                    f"{first.dtype}, of {other.path} {other.shape[1:]} {other.dtype}"
                )
        self._begin(readers, "frames", "one after the other")
        self._starts = np.cumsum([0, *(len(reader) for reader in readers)])
        self.shape = (int(self._starts[-1]), *first.shape[1:])

    def _read(self, indices: np.ndarray) -> np.ndarray:
        out = np.empty((len(indices), *self.shape[1:]), self.dtype)
        number = np.searchsorted(self._starts, indices, side="right") - 1
        breaks = np.flatnonzero(np.diff(number)) + 1
        places = np.split(np.arange(len(indices)), breaks) if len(indices) else []
        for some in places:
            reader = self._readers[number[some[0]]]
            out[some] = reader._read(indices[some] - self._starts[number[some[0]]])
            if len(self._readers) > _MOST_OPEN:
                reader.rest()
        return out


class PartReader(VideoReader):
    """Some frames and channels of a video.

    Parameters
    ----------
    reader : VideoReader
    frames : range, optional
        Which frames; None for all.
    channels : sequence of int, optional
        Which channels; None for all.
    frame_rate_hz : float, optional
        Frames per second, where the user knows better than the file.
    owned : bool
        Close the video with this one.

    Raises
    ------
    ValueError
        There is no such channel.
    """

    def __init__(
        self,
        reader: VideoReader,
        *,
        frames: range | None = None,
        channels: Sequence[int] | None = None,
        frame_rate_hz: float | None = None,
        owned: bool = True,
    ) -> None:
        self._reader, self._owned = reader, owned
        self._frames = range(len(reader)) if frames is None else frames
        self._channels = None if channels is None else list(channels)
        self.path, self.dtype, self.n_planes, self.plane = reader.path, reader.dtype, reader.n_planes, reader.plane
        if self._channels and max(self._channels) >= reader.n_channels:
            raise ValueError(
                f"{self._name}: channels={self._channels}, but there are {reader.n_channels}, counted from 0"
            )
        self.shape = (
            len(self._frames),
            *reader.shape[1:3],
            reader.n_channels if self._channels is None else len(self._channels),
        )
        self.frame_rate_hz = frame_rate_hz or reader.frame_rate_hz
        self.origin = dict(reader.origin)
        if frames is not None:
            self.origin["frames"] = f"{self._frames.start}:{self._frames.stop} of {len(reader)}, as given"
        if channels is not None:
            self.origin["channels"] = f"{self._channels} of {reader.n_channels}, as given"
        if frame_rate_hz:
            self.origin["frame rate"] = "as given"

    def _read(self, indices: np.ndarray) -> np.ndarray:
        frames = self._reader._read(np.asarray(indices, int) + self._frames.start)
        return frames if self._channels is None else frames[..., self._channels]

    def rest(self) -> None:
        """Let go of the file until it is read again."""
        self._reader.rest()

    def close(self) -> None:
        """Close the file, if it is this one's."""
        if self._owned:
            self._reader.close()


class BinnedReader(PartReader):
    """Means of successive frames of a video, float32; the last one may be of fewer.

    Parameters
    ----------
    reader : VideoReader
        Closed with this one.
    bin_size : int
        How many.
    """

    def __init__(self, reader: VideoReader, bin_size: int) -> None:
        super().__init__(reader)
        self._bin_size = bin_size
        self.shape = (-(-len(reader) // bin_size), *reader.shape[1:])
        self.dtype = np.dtype(np.float32)
        self.frame_rate_hz = reader.frame_rate_hz and reader.frame_rate_hz / bin_size
        self.origin["bins"] = f"means of {bin_size} frames, as given"

    def _read(self, indices: np.ndarray) -> np.ndarray:
        out = np.empty((len(indices), *self.shape[1:]), np.float32)
        for mean, index in zip(out, indices, strict=True):
            first = int(index) * self._bin_size
            frames = super()._read(np.arange(first, min(first + self._bin_size, len(self._reader))))
            mean[:] = frames.mean(axis=0, dtype=np.float64)
        return out


class PlaneReader(PartReader):
    """The frames of one plane, of a video in which those of all planes follow each other.

    Parameters
    ----------
    reader : VideoReader
        Closed with this one.
    frames : ndarray
        Numbers of the plane's frames.
    plane, n_planes : int
        Which one, counted from 0, and of how many; None where there is but one.
    where : str
        What says so.
    """

    def __init__(self, reader: VideoReader, frames: np.ndarray, plane: int | None, n_planes: int, where: str) -> None:
        super().__init__(reader)
        self._of_plane, self.plane, self.n_planes = frames, plane, n_planes
        self.shape = (len(frames), *reader.shape[1:])
        self.frame_rate_hz = reader.frame_rate_hz and reader.frame_rate_hz / n_planes
        self.origin |= {"planes": where, "axes": where}

    def _read(self, indices: np.ndarray) -> np.ndarray:
        return super()._read(self._of_plane[indices])


def check_size(path: Path, descriptor: int, expected: int) -> None:
    """Refuse what was read from a file that has changed its size.

    Of one that has become shorter, libraries fill what is missing with zeros. One that grows is still being written, so
    that what was found in it when it was opened is not all of it.

    Parameters
    ----------
    path
        For the message.
    descriptor
        Of the open file.
    expected
        Its size in bytes when it was opened.

    Raises
    ------
    ValueError
        It is shorter or longer now.
    """
    found = os.fstat(descriptor).st_size
    if found < expected:
        raise ValueError(f"{path}: truncated while it was read: expected {expected} bytes, found {found}")
    if found > expected:
        raise ValueError(
            f"{path}: grew while it was read: expected {expected} bytes, found {found}; wait until it is written"
        )


def as_slice(indices: np.ndarray) -> slice | np.ndarray:
    """The same frames as a slice where they follow each other, which is read in one piece."""
    if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        return slice(int(indices[0]), int(indices[0]) + len(indices))
    return indices
