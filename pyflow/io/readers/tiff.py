"""Videos in TIFF files."""

import os
import struct
from pathlib import Path

import numpy as np
import tifffile

from pyflow.io.readers.video import VideoReader, check_size


class TiffReader(VideoReader):
    """Reads TIFF: classic and BigTIFF, ImageJ hyperstacks of any size, OME, compressed or not, appended to or not.

    Uncompressed files whose pages lie one after the other are copied from disk; the others are decoded page by page.

    Parameters
    ----------
    path : Path
    n_channels : int, optional
        The pages interleave this many channels. By default as the file's own metadata say.

    Raises
    ------
    ValueError
        Not a TIFF file, truncated, or the pages do not make a video.
    """

    def __init__(self, path: Path, n_channels: int | None = None) -> None:
        self.path = Path(path)
        try:
            self._file = tifffile.TiffFile(self.path)
        except (tifffile.TiffFileError, OSError, ValueError) as error:
            raise ValueError(f"{self.path}: not a readable TIFF file: {error}") from error
        try:
            self._series = self._find_series()
            self._pages, self._samples = self._page_table(n_channels)
            self._first_pages = np.cumsum([0, *(_n_pages(series) for series in self._series)])
            self._size = self.path.stat().st_size
            self._check_complete()
        except (tifffile.TiffFileError, struct.error) as error:
            self._file.close()
            raise ValueError(f"{self.path}: damaged or truncated: {error}") from error
        except BaseException:
            self._file.close()
            raise
        first = self._series[0]
        height, width = (first.shape[first.axes.index(axis)] for axis in "YX")
        self.dtype = np.dtype(first.dtype)
        self.shape = (len(self._pages), height, width, self._pages.shape[1] * self._samples)
        self._stored_dtype = self.dtype.newbyteorder(self._file.byteorder)
        self._page_bytes = height * width * self._samples * self.dtype.itemsize
        self._offsets: np.ndarray | None = None
        if all(series.dataoffset is not None for series in self._series):
            self._offsets = np.concatenate([
                series.dataoffset + np.arange(_n_pages(series)) * self._page_bytes for series in self._series
            ])  # fmt: skip
        self._stream = open(self.path, "rb", buffering=0)  # noqa: SIM115

    def _find_series(self) -> list[tifffile.TiffPageSeries]:
        """Return the series that make up the video: one, or many of one kind, as programs leave that append frames."""
        found = list(self._file.series)
        if not found:
            raise ValueError(f"{self.path}: the file holds no images")
        kinds = {_kind(series): f"{series.axes} {series.shape} {series.dtype}" for series in found}
        if len(kinds) > 1:
            raise ValueError(
                f"{self.path}: {len(found)} series of images that differ, expected one size and type: "
                f"{', '.join(list(kinds.values())[:4])}"
            )
        series = found[0]
        if len(found) > 1 and series.kind == "ome" and len(series.pages) > 1:
            raise ValueError(
                f"{self.path}: {len(found)} movies ({series.axes} {series.shape}) in one OME-TIFF, expected one"
            )
        if "Y" not in series.axes or "X" not in series.axes or series.dtype is None:
            raise ValueError(f"{self.path}: axes {series.axes} {series.shape}, expected images")
        if np.dtype(series.dtype).kind not in "buif":
            raise ValueError(f"{self.path}: pixels of type {series.dtype}, expected real numbers")
        return found

    def _page_table(self, n_channels: int | None) -> tuple[np.ndarray, int]:
        """Page number of every (frame, channel), counted through all series, and samples per pixel within a page."""
        axes, shape = self._series[0].axes, self._series[0].shape
        samples = shape[-1] if axes.endswith("YXS") else 1
        outer = axes[: axes.index("Y")]
        if axes not in (f"{outer}YX", f"{outer}YXS"):
            raise ValueError(f"{self.path}: axes {axes} {shape}, expected rows and columns last")
        n_pages = sum(_n_pages(series) for series in self._series)
        stored = _channel_axis(self._series[0])
        if stored is None:
            n_channels = n_channels or 1
            if n_channels < 1 or n_pages % n_channels:
                raise ValueError(f"{self.path}: {n_pages} pages do not divide into {n_channels} channels")
            return np.arange(n_pages).reshape(-1, n_channels), samples
        if n_channels not in (None, shape[stored]):
            raise ValueError(f"{self.path}: n_channels is {n_channels}, the file says {shape[stored]} ({axes} {shape})")
        tables, first = [], 0
        for series in self._series:
            outer_shape = series.shape[: series.axes.index("Y")]
            pages = first + np.arange(_n_pages(series)).reshape(outer_shape)
            tables.append(np.moveaxis(pages, _channel_axis(series), -1).reshape(-1, shape[stored]))
            first += pages.size
        return np.concatenate(tables), samples

    def _check_complete(self) -> None:
        last = self._file.pages[len(self._file.pages) - 1]
        ends = [o + n for o, n in zip(last.dataoffsets, last.databytecounts, strict=True)]
        ends += [series.dataoffset + series.nbytes for series in self._series if series.dataoffset is not None]
        end = max(ends, default=0)
        if end > self._size:
            raise ValueError(f"{self.path}: truncated: the header says {end} bytes, the file has {self._size}")
        expected = self._announced()
        if expected is not None and expected > self._pages.size:
            raise ValueError(
                f"{self.path}: truncated: the header says {expected} pages, the file has {self._pages.size}"
            )
        if following := self._page_after(last):
            raise ValueError(
                f"{self.path}: damaged after {self._pages.size} pages: the next one should be at byte {following} of "
                f"{self._size}"
            )

    def _announced(self) -> int | None:
        """Number of pages that the file's metadata promise, where they do."""
        if self._file.imagej_metadata and "images" in self._file.imagej_metadata:
            return int(self._file.imagej_metadata["images"])
        if self._file.shaped_metadata:
            pixels = sum(int(np.prod(one["shape"])) for one in self._file.shaped_metadata)
            return pixels // int(np.prod(self._file.pages[0].shape))
        return None

    def _page_after(self, page: tifffile.TiffPage) -> int:
        """Return where the chain of pages goes on after one, in bytes; 0 where it ends."""
        tiff, stream = self._file.tiff, self._file.filehandle
        stream.seek(page.offset)
        (n_tags,) = struct.unpack(tiff.tagnoformat, stream.read(tiff.tagnosize))
        stream.seek(n_tags * tiff.tagsize, os.SEEK_CUR)
        return struct.unpack(tiff.offsetformat, stream.read(tiff.offsetsize))[0]

    def _copy(self, pages: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Pages that lie uncompressed in the file; those that follow each other are read at once.

        Plain reads, not a memory map: mapped pages would stay in the process's memory.
        """
        out = np.empty((len(pages), *self.shape[1:3], self._samples), self._stored_dtype)
        breaks = np.flatnonzero(np.diff(offsets) != self._page_bytes) + 1
        for first, target in zip(np.split(offsets, breaks), np.split(out, breaks), strict=True):
            wanted = memoryview(target.reshape(-1).view(np.uint8))
            found = 0
            self._stream.seek(int(first[0]))
            while found < len(wanted) and (count := self._stream.readinto(wanted[found:])):
                found += count
            if found < len(wanted):
                raise ValueError(
                    f"{self.path}: changed while it was read: expected {len(wanted)} bytes from byte {first[0]} on, "
                    f"found {found}"
                )
        return out

    def _read(self, indices: np.ndarray) -> np.ndarray:
        if not len(indices):
            return np.empty((0, *self.shape[1:]), self.dtype)
        pages = self._pages[indices].ravel()
        found = self._decode(pages) if self._offsets is None else self._copy(pages, self._offsets[pages])
        check_size(self.path, self._stream.fileno(), self._size)
        found = found.reshape(len(indices), self._pages.shape[1], *self.shape[1:3], self._samples)
        frames = np.moveaxis(found, 1, 3).reshape(len(indices), *self.shape[1:])
        return np.ascontiguousarray(frames, dtype=self.dtype)

    def _decode(self, pages: np.ndarray) -> np.ndarray:
        number = np.searchsorted(self._first_pages, pages, side="right") - 1
        within = pages - self._first_pages[number]
        breaks = np.flatnonzero(np.diff(number)) + 1
        shape = -1, *self.shape[1:3], self._samples
        try:
            return np.concatenate([
                self._file.asarray(key=keys.tolist(), series=int(series[0])).reshape(shape)
                for series, keys in zip(np.split(number, breaks), np.split(within, breaks), strict=True)
            ])  # fmt: skip
        except (ValueError, OSError, RuntimeError, IndexError, TypeError) as error:
            raise ValueError(
                f"{self.path}: pages {pages[0]} to {pages[-1]} of {self._pages.size} cannot be decoded: {error}"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self._file.close()


def _channel_axis(series: tifffile.TiffPageSeries) -> int | None:
    """Return which axis of a series, of those over its pages, holds the channels."""
    outer = series.axes[: series.axes.find("Y")]
    return next((place for place, axis in enumerate(outer) if axis in "CS"), None)


def _n_pages(series: tifffile.TiffPageSeries) -> int:
    return int(np.prod(series.shape[: series.axes.index("Y")], dtype=int))


def _kind(series: tifffile.TiffPageSeries) -> tuple:
    """Return what must be the same in all series of a video: everything but the number of frames."""
    channels = _channel_axis(series)
    n_channels = None if channels is None else series.shape[channels]
    rows = max(series.axes.find("Y"), 0)
    return series.axes[rows:], series.shape[rows:], str(series.dtype), n_channels
