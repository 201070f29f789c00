"""Videos in HDF5: one data set ``(T, H, W)`` per channel, as Flow-Registration writes them."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyflow.io.output import undisturbed
from pyflow.io.writers.video import VideoWriter

_REMEMBERED = 4096  # frames after which a file is closed and opened again
_DEFLATE_LEVEL = 2  # of photon noise, more than this leaves no less, and takes longer


def filters(compression: str | None) -> dict[str, Any]:
    """Return the arguments with which h5py makes a compressed data set.

    Raises
    ------
    ImportError
        The compression needs hdf5plugin, which is not installed.
    """
    if compression is None:
        return {}
    if compression in ("gzip", "lzf"):
        return {"compression": compression, "shuffle": True}
    try:
        import hdf5plugin
    except ImportError as error:
        raise ImportError(f"compression {compression!r} needs hdf5plugin: pip install hdf5plugin") from error
    plugin = {"lz4": "LZ4", "zstd": "Zstd", "blosc": "Blosc"}[compression]
    return {"shuffle": compression != "blosc", **getattr(hdf5plugin, plugin)()}  # blosc shuffles itself


class Hdf5Writer(VideoWriter):
    """Writes HDF5: data sets of rank 3 in the root and nothing else.

    Parameters
    ----------
    path : str or Path
    dataset_names : sequence of str, optional
        One per channel; ``ch1``, ``ch2`` ... by default.
    compression : {"gzip", "lzf", "lz4", "zstd", "blosc"}, optional
        With the byte shuffle. ``"gzip"`` is read everywhere HDF5 is, MATLAB included; ``"lzf"`` by h5py; the others
        where hdf5plugin is.
    resume_at : int, optional
        Keep an interrupted file's hidden remains, and go on after this many of its frames (0: start anew).
    snapshot : mapping of str, optional
        Of the interrupted writer at that moment, see `VideoWriter`.
    attributes : mapping of str or float, optional
        Attributes of the root, for example who wrote the file.

    Raises
    ------
    ValueError
        The interrupted file holds fewer frames, or is not as it was written.
    ImportError
        The compression needs hdf5plugin, which is not installed.
    OSError
        The file cannot be created, or the interrupted one not opened.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dataset_names: list[str] | None = None,
        compression: str | None = None,
        resume_at: int | None = None,
        snapshot: Mapping[str, np.ndarray] | None = None,
        attributes: Mapping[str, str | float] | None = None,
    ) -> None:
        self._filters = filters(compression)
        super().__init__(path, resume_at, snapshot)
        self._file: h5py.File | None = None
        self._names = dataset_names
        try:
            self._open(resume_at, attributes or {})
            self._output.check()
        except BaseException:
            self.discard()
            raise

    @undisturbed
    def _open(self, resume_at: int | None, attributes: Mapping[str, str | float]) -> None:
        self._file = h5py.File(self._output, "r+" if resume_at else "w")
        self._file.attrs.update(attributes)
        if resume_at:
            self._go_on_after(resume_at)

    def _go_on_after(self, n_frames: int) -> None:
        names = self._names or sorted(self._file, key=lambda name: int(name[2:]))
        for name in names:
            if name not in self._file or len(self._file[name]) < n_frames:
                found = len(self._file[name]) if name in self._file else "no"
                raise ValueError(f"{self._partial}: {found} frames in {name}, expected at least {n_frames}")
            self._file[name].resize(n_frames, axis=0)
            if (stored := self._file[name].id.get_num_chunks()) != n_frames:
                raise ValueError(f"{self._partial}: {stored} frames stored in {name}, expected {n_frames}")
        first = self._file[names[0]]
        self._names, self.frames_written = names, n_frames
        self._frame_shape, self._dtype = (*first.shape[1:], len(names)), first.dtype

    def _reopen(self) -> None:
        """Make HDF5 forget where frames are that were written: half a kilobyte for each until it closes."""
        self._file.close()
        self._file = h5py.File(self._output, "r+")

    def _default_names(self, n_channels: int) -> list[str]:
        return [f"ch{channel + 1}" for channel in range(n_channels)]

    @undisturbed
    def _append(self, frames: np.ndarray) -> None:
        count, height, width, n_channels = frames.shape
        names = self._names or self._default_names(n_channels)
        if len(names) != n_channels:
            raise ValueError(f"{self.path}: {n_channels} channels for the data sets {', '.join(names)}")
        if self.frames_written // _REMEMBERED != (self.frames_written + count) // _REMEMBERED:
            self._reopen()
        for channel, name in enumerate(names):
            if name not in self._file:
                self._file.create_dataset(
                    name,
                    shape=(0, height, width),
                    maxshape=(None, height, width),
                    chunks=(1, height, width),
                    dtype=frames.dtype,
                    **self._filters,
                )
            dataset, plane = self._file[name], frames[..., channel]
            dataset.resize(self.frames_written + count, axis=0)
            encode = _ENCODINGS.get(_filters_of(dataset))
            if encode is None:
                dataset[self.frames_written :] = plane
                continue
            for t, frame in enumerate(plane, self.frames_written):  # past HDF5's cache, which would copy it
                dataset.id.write_direct_chunk((t, 0, 0), encode(np.ascontiguousarray(frame)))

    @undisturbed
    def _flush_file(self) -> None:
        self._file.flush()

    @undisturbed
    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()


def _filters_of(dataset: h5py.Dataset) -> tuple[int, ...]:
    """Return HDF5's numbers of the filters that a data set has: one that is gone on with may have others than asked."""
    plan = dataset.id.get_create_plist()
    return tuple(plan.get_filter(number)[0] for number in range(plan.get_nfilters()))


def _shuffled_and_deflated(frame: np.ndarray) -> bytes:
    """Return what HDF5's filters for gzip make of a frame: first bytes of all values, second ones, and so on."""
    return zlib.compress(np.ascontiguousarray(frame.reshape(-1, 1).view(np.uint8).T), _DEFLATE_LEVEL)


_ENCODINGS = {(): memoryview, (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE): _shuffled_and_deflated}


class CaimanHdf5Writer(Hdf5Writer):
    """Writes HDF5 as CaImAn loads it: a data set ``mov`` (T, H, W); of several channels ``mov``, ``mov_ch2`` ..."""

    def _default_names(self, n_channels: int) -> list[str]:
        return ["mov", *(f"mov_ch{channel}" for channel in range(2, n_channels + 1))]
