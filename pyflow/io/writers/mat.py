"""Videos in MATLAB's files: a variable ``ch1``, ``ch2`` ... per channel, (H, W, T) in MATLAB.

Version 7.3 is HDF5 with a header, which grows as frames come and may have any size; MATLAB's `matfile` reads parts of
it. Octave and scipy do not read it: for them there is version 7, whose variables hold less than 2 GiB.
"""

import struct
from pathlib import Path

import h5py
import numpy as np

from pyflow.io.output import OutputFile, undisturbed
from pyflow.io.writers.hdf5 import filters
from pyflow.io.writers.video import VideoWriter

# MATLAB's name of a type, and in version 7 the number of its class and of its type on disk.
_TYPES = {
    "f8": ("double", 6, 9),
    "f4": ("single", 7, 7),
    "i1": ("int8", 8, 1),
    "u1": ("uint8", 9, 2),
    "i2": ("int16", 10, 3),
    "u2": ("uint16", 11, 4),
    "i4": ("int32", 12, 5),
    "u4": ("uint32", 13, 6),
    "i8": ("int64", 14, 12),
    "u8": ("uint64", 15, 13),
}

_HEADER_BYTES = 512  # of version 7.3, before HDF5 begins
_LARGEST = (1 << 31) - 1  # bytes of a variable of version 7


def _type_of(path: Path, dtype: np.dtype) -> tuple[str, int, int]:
    if dtype.str[1:] not in _TYPES:
        raise ValueError(
            f"{path}: MATLAB has no type {dtype}, expected one of {', '.join(t[0] for t in _TYPES.values())}"
        )
    return _TYPES[dtype.str[1:]]


def _text(version: bytes) -> bytes:
    """Return the header that every MATLAB file begins with: 116 bytes of text, 8 of no use, version, order of bytes."""
    return b"MATLAB %s MAT-file, written by pyflow" % version


class MatWriter(VideoWriter):
    """Writes MATLAB's version 7.3.

    Parameters
    ----------
    path : str or Path
    compression : {"gzip"}, optional
        As MATLAB compresses.
    """

    def __init__(self, path: str | Path, *, compression: str | None = None) -> None:
        self._filters = filters(compression)
        super().__init__(path)
        self._file: h5py.File | None = None
        try:
            self._open()
            self._output.check()
        except BaseException:
            self.discard()
            raise

    @undisturbed
    def _open(self) -> None:
        self._file = h5py.File(self._output, "w", userblock_size=_HEADER_BYTES)

    @undisturbed
    def _append(self, frames: np.ndarray) -> None:
        count, height, width, n_channels = frames.shape
        kind = _type_of(self.path, frames.dtype)[0]
        for channel in range(n_channels):
            name = f"ch{channel + 1}"
            if name not in self._file:
                dataset = self._file.create_dataset(
                    name,
                    shape=(0, width, height),
                    maxshape=(None, width, height),
                    chunks=(1, width, height),
                    dtype=frames.dtype.newbyteorder("<"),
                    **self._filters,
                )
                dataset.attrs["MATLAB_class"] = np.bytes_(kind)
            self._file[name].resize(self.frames_written + count, axis=0)
            self._file[name][self.frames_written :] = frames[..., channel].transpose(0, 2, 1)

    @undisturbed
    def _flush_file(self) -> None:
        self._file.flush()

    @undisturbed
    def _close_file(self) -> None:
        if self._file is not None and self._file:
            self._file.close()
            self._output.seek(0)
            self._output.write(_text(b"7.3").ljust(116) + bytes(8) + struct.pack("<H2s", 0x0200, b"IM"))


class Mat7Writer(VideoWriter):
    """Writes MATLAB's version 7, which Octave and scipy read too, uncompressed.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    ValueError
        On writing: a channel would hold 2 GiB or more.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        # a variable follows the other: the channels after the first wait in files of their own
        self._waiting: dict[Path, OutputFile] = {}

    def _check(self) -> None:
        super()._check()
        for file in self._waiting.values():
            file.check()

    def _append(self, frames: np.ndarray) -> None:
        _, height, width, n_channels = frames.shape
        _type_of(self.path, frames.dtype)
        n_bytes = (self.frames_written + len(frames)) * height * width * frames.dtype.itemsize
        if n_bytes + 1024 > _LARGEST:
            raise ValueError(
                f"{self.path}: {n_bytes} bytes in a channel, expected less than {_LARGEST + 1}, the most that MATLAB's "
                "version 7 can hold; write version 7.3, output_format MAT"
            )
        if self.frames_written == 0:
            self._output.write(_text(b"5.0").ljust(116) + bytes(8) + struct.pack("<H2s", 0x0100, b"IM"))
            self._output.write(self._variable(0, 0, frames.shape[1:], frames.dtype))
            for channel in range(1, n_channels):
                path = self._partial.with_name(f"{self._partial.name}.ch{channel + 1}")
                self._waiting[path] = OutputFile(path, self.path)
        columns_first = np.ascontiguousarray(frames.transpose(3, 0, 2, 1), dtype=frames.dtype.newbyteorder("<"))
        self._output.write(memoryview(columns_first[0]).cast("B"))
        for file, channel in zip(self._waiting.values(), columns_first[1:], strict=True):
            file.write(memoryview(channel).cast("B"))

    def _variable(self, channel: int, n_frames: int, frame_shape: tuple[int, int, int], dtype: np.dtype) -> bytes:
        """Return all of a variable that comes before its values."""
        height, width, _ = frame_shape
        _, of_class, of_type = _type_of(self.path, dtype)
        name = f"ch{channel + 1}".encode()
        n_bytes = n_frames * height * width * dtype.itemsize
        parts = struct.pack("<IIII", 6, 8, of_class, 0)
        parts += struct.pack("<IIiiii", 5, 12, height, width, n_frames, 0)
        parts += struct.pack("<II", 1, len(name)) + name.ljust(-(-len(name) // 8) * 8, b"\0")
        parts += struct.pack("<II", of_type, n_bytes)
        return struct.pack("<II", 14, len(parts) + n_bytes + _padding(n_bytes)) + parts

    def _close_file(self) -> None:
        try:
            if self.frames_written:
                n_bytes = self.frames_written * int(np.prod(self._frame_shape[:2])) * self._dtype.itemsize
                about = self.frames_written, self._frame_shape, self._dtype
                self._output.write(bytes(_padding(n_bytes)))
                for channel, file in enumerate(self._waiting.values(), 1):
                    self._output.write(self._variable(channel, *about))
                    file.seek(0)
                    while piece := file.read(1 << 24):
                        self._output.write(piece)
                    self._output.write(bytes(_padding(n_bytes)))
                self._output.seek(128)
                self._output.write(self._variable(0, *about))
        finally:
            for path, file in self._waiting.items():
                file.close()
                path.unlink(missing_ok=True)


def _padding(n_bytes: int) -> int:
    return -n_bytes % 8
