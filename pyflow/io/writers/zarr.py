"""Videos in Zarr: an array ``ch1``, ``ch2`` ... (T, H, W) per channel in a folder; needs the package zarr.

The format is version 2, which all readers of Zarr know; the axes have names under which xarray finds them.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.io.atomic import PARTIAL_PREFIX, remove_anything, temporary_beside
from pyflow.io.output import disk_error, undisturbed
from pyflow.io.pieces import piece_length
from pyflow.io.readers.formats import is_zarr
from pyflow.io.writers.video import VideoWriter

# Bytes of a chunk before it is compressed: a file each, so that there are not too many.
_CHUNK_BYTES = 1 << 23


class ZarrWriter(VideoWriter):
    """Writes Zarr.

    The folder gets its name when the video is closed. An interrupted one cannot be gone on with.

    Parameters
    ----------
    path : str or Path
        Target; its folder must exist. What is there is replaced.
    compression : {"gzip", "lz4", "zstd", "blosc"}, optional
        Without loss.

    Raises
    ------
    ImportError
        The package zarr is missing.
    ValueError
        Zarr does not know the compression.
    FileExistsError
        There is a folder of something else.
    OSError
        The folder cannot be made.
    """

    def __init__(self, path: str | Path, *, compression: str | None = None) -> None:
        # a folder in place of the file that the base would make
        self.path = Path(path)
        self.frames_written = 0
        self._frame_shape: tuple[int, int, int] | None = None
        self._dtype: np.dtype | None = None
        self._partial = self.path.with_name(f"{PARTIAL_PREFIX}{self.path.name}")
        self._arrays: list[Any] = []
        self._waiting: list[np.ndarray] = []
        self._error: OSError | None = None
        self._ended = False
        try:
            zarr = import_module("zarr")
        except ImportError as error:
            raise ImportError(f"{path}: writing Zarr needs the package zarr: pip install pyflow-2p[zarr]") from error
        self._compressor = _compressor(self.path, compression)
        if self.path.is_dir() and any(self.path.iterdir()) and not is_zarr(self.path):
            raise FileExistsError(f"{self.path}: is a folder of other files, expected none, or a Zarr store")
        try:
            remove_anything(self._partial)
            self._group = zarr.open_group(str(self._partial), mode="w", zarr_format=2)
        except OSError as error:
            raise disk_error(self.path, error, 0) from error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _append(self, frames: np.ndarray) -> None:
        self._waiting.append(frames.copy())
        per_chunk = self._frames_per_chunk
        waiting = sum(map(len, self._waiting))
        if waiting >= per_chunk:
            together = np.concatenate(self._waiting)
            whole = waiting // per_chunk * per_chunk
            self._write(together[:whole])
            self._waiting = [together[whole:]]

    @property
    def _frames_per_chunk(self) -> int:
        height, width, _ = self._frame_shape
        return piece_length((height, width), self._dtype, _CHUNK_BYTES)

    @undisturbed
    def _write(self, frames: np.ndarray) -> None:
        """Append frames that begin where a chunk does."""
        try:
            if not self._arrays:
                self._create()
            for channel, array in enumerate(self._arrays):
                first = array.shape[0]
                array.resize((first + len(frames), *frames.shape[1:3]))
                array[first:] = frames[..., channel]
        except OSError as error:
            self._error = disk_error(self.path, error, frames.nbytes)

    def _create(self) -> None:
        height, width, n_channels = self._frame_shape
        self._arrays = [
            self._group.create_array(
                f"ch{channel + 1}",
                shape=(0, height, width),
                chunks=(self._frames_per_chunk, height, width),
                dtype=self._dtype,
                compressors=self._compressor,
                attributes={"_ARRAY_DIMENSIONS": ["time", "y", "x"]},
                # Chunks of zeros are left out otherwise, as those of an aborted recording are.
                config={"write_empty_chunks": True},
            )
            for channel in range(n_channels)
        ]

    def _close_file(self) -> None:
        """Everything is done in `finish`."""

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return nothing: an interrupted store is not gone on with."""
        return {}

    def settle(self) -> None:
        """Do nothing; see `snapshot`."""

    def finish(self) -> None:
        """Write everything to the disk, and leave the folder under its hidden name until `close`."""
        self._check()
        if self._waiting:
            rest, self._waiting = np.concatenate(self._waiting), []
            if len(rest):
                self._write(rest)
        self._check()
        try:
            for folder, _, names in os.walk(self._partial):
                for name in names:
                    with open(Path(folder, name), "rb+") as file:
                        os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(self.path, error) from error

    def close(self) -> None:
        """Finish the folder and give it its name; see `VideoWriter.close`."""
        if self._ended:
            return
        self._ended = True
        try:
            self.finish()
            self._take_the_name()
        except BaseException:
            remove_anything(self._partial)
            raise

    def _take_the_name(self) -> None:
        """Put the folder in place of what is there; a folder cannot replace another at once."""
        if not os.path.lexists(self.path):
            os.rename(self._partial, self.path)
            return
        earlier = temporary_beside(self.path)
        remove_anything(earlier)
        os.rename(self.path, earlier)
        try:
            os.rename(self._partial, self.path)
        except BaseException:
            os.rename(earlier, self.path)
            raise
        remove_anything(earlier)

    def discard(self) -> None:
        """Give up; see `VideoWriter.discard`."""
        self._ended = True
        remove_anything(self._partial)


def _compressor(path: Path, compression: str | None) -> Any:
    if compression is None:
        return None
    numcodecs = import_module("numcodecs")
    known = {
        "gzip": lambda: numcodecs.GZip(level=4),
        "lz4": lambda: numcodecs.Blosc("lz4"),
        "zstd": lambda: numcodecs.Blosc("zstd"),
        "blosc": lambda: numcodecs.Blosc(),
    }
    if compression not in known:
        raise ValueError(f"{path}: compression {compression!r} is not one of Zarr's, expected {', '.join(known)}")
    return known[compression]()
