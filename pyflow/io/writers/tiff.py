"""Videos in TIFF files.

1. Pixel types that ImageJ knows go into a file as ImageJ writes it. The first page's directory stands at the start,
   with ImageJ's description of the stack, and the frames follow without anything between them. The directories of the
   other pages come last.
2. A classic TIFF file cannot say where a page is that begins beyond 4 GB. In a file that large there is one directory
   and ImageJ's description, by which ImageJ, Fiji and tifffile find all frames: that is how ImageJ saves such stacks.
3. Other pixel types go into BigTIFF.
"""

import struct
from pathlib import Path

import numpy as np
import tifffile

from pyflow.io.writers.video import VideoWriter

# What ImageJ opens without a change of values, and the number by which TIFF calls it.
_IMAGEJ_TYPES = {"u1": 1, "u2": 1, "i2": 2, "f4": 3}

# Where the frames begin: behind the first directory and its description.
_FIRST_FRAME = 4096

# Offsets in classic TIFF have 32 bits.
_CLASSIC_BYTES = 1 << 32

_SHORT, _LONG, _ASCII = 3, 4, 2


class TiffWriter(VideoWriter):
    """Writes TIFF, uncompressed, as one series: ``tifffile.imread`` gives (T, H, W), or (T, C, H, W).

    Values of type uint8, uint16, int16 and float32 are written as ImageJ writes them, of any size; other types as
    BigTIFF, which ImageJ opens with the help of Bio-Formats.

    Parameters
    ----------
    path : str or Path
    frame_rate_hz : float, optional
        Frames per second, for ImageJ.
    """

    def __init__(self, path: str | Path, *, frame_rate_hz: float | None = None) -> None:
        super().__init__(path)
        self._interval = 1 / frame_rate_hz if frame_rate_hz else None
        self._big: tifffile.TiffWriter | None = None

    def _append(self, frames: np.ndarray) -> None:
        if frames.dtype.str[1:] not in _IMAGEJ_TYPES:
            self._append_big(frames)
            return
        if self.frames_written == 0:
            self._output.seek(_FIRST_FRAME)
        planes = np.ascontiguousarray(np.moveaxis(frames, -1, 1), dtype=frames.dtype.newbyteorder("<"))
        self._output.write(memoryview(planes).cast("B"))

    def _append_big(self, frames: np.ndarray) -> None:
        if frames.dtype == bool:  # the library packs them into bits, one page at a time only
            raise ValueError(f"{self.path}: frames of type bool, expected numbers, for example uint8")
        if self._big is None:
            self._big = tifffile.TiffWriter(self._output, bigtiff=True)
        single = frames.shape[-1] == 1
        for frame in frames:
            self._big.write(
                frame[..., 0] if single else np.moveaxis(frame, -1, 0),
                contiguous=True,
                photometric="minisblack",
                metadata={"axes": "TYX" if single else "TCYX"},
            )

    def _close_file(self) -> None:
        if self._big is not None:
            self._big.close()
        elif self.frames_written and not self._output.closed:
            self._write_directories()

    def _write_directories(self) -> None:
        height, width, n_channels = self._frame_shape
        page_bytes = height * width * self._dtype.itemsize
        n_pages = self.frames_written * n_channels
        end = _FIRST_FRAME + n_pages * page_bytes
        end += end % 2  # directories begin at even bytes
        description = self._description(n_pages, n_channels)

        def directory(page: int, at: int, following: int) -> bytes:
            text = description if page == 0 else b""
            tags = [
                (256, _LONG, 1, width),
                (257, _LONG, 1, height),
                (258, _SHORT, 1, 8 * self._dtype.itemsize),
                (259, _SHORT, 1, 1),
                (262, _SHORT, 1, 1),
                *([(270, _ASCII, len(text), at + _directory_bytes(11))] if text else []),
                (273, _LONG, 1, _FIRST_FRAME + page * page_bytes),
                (277, _SHORT, 1, 1),
                (278, _LONG, 1, height),
                (279, _LONG, 1, page_bytes),
                (339, _SHORT, 1, _IMAGEJ_TYPES[self._dtype.str[1:]]),
            ]
            entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
            return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + text

        size = _directory_bytes(10)
        others = n_pages - 1 if end + (n_pages - 1) * size <= _CLASSIC_BYTES else 0
        starts = [8, *(end + page * size for page in range(others)), 0]
        for page in range(others + 1):
            self._output.seek(starts[page])
            self._output.write(directory(page, starts[page], starts[page + 1]))
        self._output.seek(0)
        self._output.write(struct.pack("<2sHI", b"II", 42, 8))

    def _description(self, n_pages: int, n_channels: int) -> bytes:
        lines = [
            "ImageJ=1.53t",
            f"images={n_pages}",
            *([f"channels={n_channels}"] if n_channels > 1 else []),
            f"frames={self.frames_written}",
            "hyperstack=true",
            *(["mode=grayscale"] if n_channels > 1 else []),
            *([f"finterval={self._interval!r}"] if self._interval else []),
            "loop=false",
        ]
        return "\n".join([*lines, "\0"]).encode()


def _directory_bytes(n_tags: int) -> int:
    return 2 + 12 * n_tags + 4
