"""Videos in HDF5 files."""

import math
import os
import re
from pathlib import Path

import h5py
import numpy as np

from pyflow.io.readers.video import VideoReader, as_slice, check_size

_MAX_CHANNELS = 8  # in a 4-D data set, the axis this short holds the channels

# Most memory for the decompressed chunks of a data set that one frame lies in. A single chunk that is larger is kept
# all the same, as that much is needed to read anything of it.
_CACHE_BYTES = 1 << 28


class Hdf5Reader(VideoReader):
    """Reads HDF5.

    Parameters
    ----------
    path : Path
    dataset : str or sequence of str, optional
        Data sets to read, one per channel, or one 4-D. By default ``ch1``, ``ch2`` ... in any case; else the only
        3-D or 4-D numeric data set in the file.

    Raises
    ------
    ValueError
        Not an HDF5 file, no such data set, or none or several that could be the video.
    """

    def __init__(self, path: Path, dataset: str | tuple[str, ...] | list[str] | None = None) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise ValueError(f"{self.path}: not a readable HDF5 file: {error}") from error
        try:
            names = [found.name for found in self._find(dataset)]
            self._datasets = [_open_with_cache(self._file, name) for name in names]
            self._channels_at, self.shape = self._layout()
        except BaseException:
            self._file.close()
            raise
        self._size = os.fstat(self._file.id.get_vfd_handle()).st_size
        self.dtype = self._datasets[0].dtype

    def _find(self, names: str | tuple[str, ...] | list[str] | None) -> list[h5py.Dataset]:
        videos: dict[str, h5py.Dataset] = {}

        def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Dataset) and item.ndim in (3, 4) and item.dtype.kind in "buif":
                videos[name] = item

        self._file.visititems(visit)
        listed = ", ".join(f"{name} {item.shape} {item.dtype}" for name, item in videos.items()) or "none"
        if names is not None:
            wanted = [names] if isinstance(names, str) else list(names)
            missing = [name for name in wanted if name.strip("/") not in videos]
            if missing:
                raise ValueError(f"{self.path}: no 3-D or 4-D data set {missing[0]!r}; found: {listed}")
            return [videos[name.strip("/")] for name in wanted]
        channels = {name: int(name[2:]) for name in videos if re.fullmatch(r"ch\d+", name, re.IGNORECASE)}
        if channels:
            return [videos[name] for name in sorted(channels, key=channels.__getitem__)]
        if len(videos) == 1:
            return list(videos.values())
        problem = "which data set is the video? name one with dataset=" if videos else "no 3-D or 4-D data set"
        raise ValueError(f"{self.path}: {problem}; found: {listed}")

    def _layout(self) -> tuple[int | None, tuple[int, int, int, int]]:
        """Axis of a 4-D data set that holds the channels, and the video's shape."""
        first = self._datasets[0]
        for other in self._datasets[1:]:
            if other.shape != first.shape or other.dtype != first.dtype:
                raise ValueError(
                    f"{self.path}: channels differ: {first.name} is {first.shape} {first.dtype}, "
                    f"{other.name} is {other.shape} {other.dtype}"
                )
        if 0 in first.shape:
            raise ValueError(f"{self.path}: {first.name} has shape {first.shape}: it holds no frames")
        if first.ndim == 3:
            return None, (*first.shape, len(self._datasets))
        if len(self._datasets) > 1:
            raise ValueError(f"{self.path}: several 4-D data sets, expected one or 3-D ones")
        for axis in (3, 1):
            if first.shape[axis] <= _MAX_CHANNELS:
                frames, *sides = (size for place, size in enumerate(first.shape) if place != axis)
                return axis, (frames, *sides, first.shape[axis])
        raise ValueError(
            f"{self.path}: {first.name} has shape {first.shape}, expected (T, H, W, C) or (T, C, H, W) with at "
            f"most {_MAX_CHANNELS} channels"
        )

    def _read(self, indices: np.ndarray) -> np.ndarray:
        out = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for channel, dataset in enumerate(self._datasets):
            frames = self._take(dataset, indices)
            if self._channels_at is None:
                out[..., channel] = frames
            else:
                out[...] = np.moveaxis(frames, self._channels_at, -1)
        check_size(self.path, self._file.id.get_vfd_handle(), self._size)
        return out

    def _take(self, dataset: h5py.Dataset, indices: np.ndarray) -> np.ndarray:
        try:
            where = as_slice(indices)
            if isinstance(where, slice) or not len(indices):
                return dataset[where]
            # h5py wants increasing indices
            unique, back = np.unique(indices, return_inverse=True)
            return dataset[unique][back]
        except OSError as error:
            raise ValueError(f"{self.path}: {dataset.name} cannot be read: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _open_with_cache(file: h5py.File, name: str) -> h5py.Dataset:
    """Open a data set so that what one frame needs to have decompressed stays for the frames beside it.

    Chunks without a filter are better left to themselves: of those only the bytes that are asked for are read.
    """
    dataset = file[name]
    if dataset.chunks is None or dataset.id.get_create_plist().get_nfilters() == 0:
        return dataset
    n_chunks = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape[1:], dataset.chunks[1:], strict=True))
    chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    wanted = max(chunk_bytes, min(n_chunks * chunk_bytes, _CACHE_BYTES))
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    slots, default_bytes, preemption = access.get_chunk_cache()
    access.set_chunk_cache(max(slots, 2 * n_chunks + 1), max(default_bytes, wanted), preemption)
    del dataset  # as long as it is open, HDF5 keeps the cache that it was opened with
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))
