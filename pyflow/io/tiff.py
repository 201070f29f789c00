"""Videos in TIFF files."""

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile

from pyflow.io.video import VideoReader, VideoWriter


class TiffReader(VideoReader):
    """Reads TIFF: classic and BigTIFF, ImageJ hyperstacks of any size, OME, compressed or not.

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
        with self._complaints() as complaints:
            try:
                self._file = tifffile.TiffFile(self.path)
            except (tifffile.TiffFileError, OSError, ValueError) as error:
                raise ValueError(f"{self.path}: not a readable TIFF file: {error}") from error
            try:
                series = self._series()
                self._pages, samples = self._page_table(series, n_channels)
                self._check_complete(series, complaints)
            except (tifffile.TiffFileError, struct.error) as error:
                self._file.close()
                raise ValueError(f"{self.path}: damaged or truncated: {error}") from error
            except BaseException:
                self._file.close()
                raise
        height, width = (series.shape[series.axes.index(axis)] for axis in "YX")
        self.dtype = np.dtype(series.dtype)
        self._samples = samples
        self.shape = (len(self._pages), height, width, self._pages.shape[1] * samples)
        self._stored_dtype = self.dtype.newbyteorder(self._file.byteorder)
        self._first_byte = series.dataoffset
        self._stream = open(self.path, "rb") if series.dataoffset is not None else None  # noqa: SIM115

    @contextmanager
    def _complaints(self) -> Iterator[list[str]]:
        """What tifffile logs while the file is opened: it goes on where a chain of pages breaks off."""
        found: list[str] = []

        class Collect(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                found.append(record.getMessage())

        handler, logger = Collect(logging.ERROR), logging.getLogger("tifffile")
        logger.addHandler(handler)
        propagate, logger.propagate = logger.propagate, False
        try:
            yield found
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagate

    def _series(self) -> tifffile.TiffPageSeries:
        if not self._file.series:
            raise ValueError(f"{self.path}: the file holds no images")
        series = self._file.series[0]
        if len(self._file.series) > 1:
            shapes = {(one.shape, one.dtype) for one in self._file.series}
            raise ValueError(
                f"{self.path}: {len(self._file.series)} series of images ({len(shapes)} sizes), expected one"
            )
        if "Y" not in series.axes or "X" not in series.axes or series.dtype is None:
            raise ValueError(f"{self.path}: axes {series.axes} {series.shape}, expected images")
        if np.dtype(series.dtype).kind not in "buif":
            raise ValueError(f"{self.path}: pixels of type {series.dtype}, expected real numbers")
        return series

    def _page_table(self, series: tifffile.TiffPageSeries, n_channels: int | None) -> tuple[np.ndarray, int]:
        """Page number of every (frame, channel), and samples per pixel within a page."""
        axes, shape = series.axes, series.shape
        samples = shape[-1] if axes.endswith("YXS") else 1
        outer = axes[: axes.index("Y")]
        if axes not in (f"{outer}YX", f"{outer}YXS"):
            raise ValueError(f"{self.path}: axes {axes} {shape}, expected rows and columns last")
        pages = np.arange(int(np.prod(shape[: len(outer)]))).reshape(shape[: len(outer)])
        stored = next((axis for axis in "CS" if axis in outer), None)
        if stored is not None and n_channels not in (None, shape[outer.index(stored)]):
            raise ValueError(
                f"{self.path}: n_channels is {n_channels}, the file says {shape[outer.index(stored)]} ({axes} {shape})"
            )
        if stored is not None:
            pages = np.moveaxis(pages, outer.index(stored), -1)
            return pages.reshape(-1, pages.shape[-1]), samples
        n_channels = n_channels or 1
        if n_channels < 1 or pages.size % n_channels:
            raise ValueError(f"{self.path}: {pages.size} pages do not divide into {n_channels} channels")
        return pages.reshape(-1, n_channels), samples

    def _check_complete(self, series: tifffile.TiffPageSeries, complaints: list[str]) -> None:
        size = self.path.stat().st_size
        if series.dataoffset is not None:
            end = series.dataoffset + series.nbytes
        else:
            last = self._file.pages[len(self._file.pages) - 1]
            end = max((o + n for o, n in zip(last.dataoffsets, last.databytecounts, strict=True)), default=0)
        if end > size:
            raise ValueError(f"{self.path}: truncated: the header says {end} bytes, the file has {size}")
        expected = self._announced()
        if expected is not None and expected > self._pages.size:
            raise ValueError(
                f"{self.path}: truncated: the header says {expected} pages, the file has {self._pages.size}"
            )
        if complaints:
            raise ValueError(f"{self.path}: damaged after {self._pages.size} pages: {complaints[0]}")

    def _announced(self) -> int | None:
        """Number of pages that the file's metadata promise, where they do."""
        if self._file.imagej_metadata and "images" in self._file.imagej_metadata:
            return int(self._file.imagej_metadata["images"])
        if self._file.shaped_metadata:
            first = self._file.pages[0]
            pixels = int(np.prod(self._file.shaped_metadata[0]["shape"]))
            return pixels // int(np.prod(first.shape))
        return None

    def _copy(self, pages: np.ndarray) -> np.ndarray:
        """Pages of a file that holds them one after the other.

        Plain reads, not a memory map: mapped pages would stay in the process's memory.
        """
        out = np.empty((len(pages), *self.shape[1:3], self._samples), self._stored_dtype)
        page_bytes = out[:1].nbytes
        breaks = np.flatnonzero(np.diff(pages) != 1) + 1
        for run, target in zip(np.split(pages, breaks), np.split(out, breaks), strict=True):
            if len(run):
                self._stream.seek(self._first_byte + int(run[0]) * page_bytes)
                self._stream.readinto(target.reshape(-1).view(np.uint8))
        return out

    def _read(self, indices: np.ndarray) -> np.ndarray:
        pages = self._pages[indices].ravel()
        found = self._copy(pages) if self._stream is not None or not len(pages) else self._decode(pages)
        found = found.reshape(len(indices), self._pages.shape[1], *self.shape[1:3], self._samples)
        frames = np.moveaxis(found, 1, 3).reshape(len(indices), *self.shape[1:])
        return np.ascontiguousarray(frames, dtype=self.dtype)

    def _decode(self, pages: np.ndarray) -> np.ndarray:
        try:
            return self._file.asarray(key=pages.tolist(), series=0)
        except (ValueError, OSError, RuntimeError, IndexError, TypeError) as error:
            raise ValueError(
                f"{self.path}: pages {pages[0]} to {pages[-1]} of {self._pages.size} cannot be decoded: {error}"
            ) from error

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
        self._file.close()


class TiffWriter(VideoWriter):
    """Writes BigTIFF, uncompressed, as one series: ``tifffile.imread`` gives (T, H, W), or (T, C, H, W).

    Parameters
    ----------
    path : str or Path
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._file = tifffile.TiffWriter(self._output, bigtiff=True)

    def _append(self, frames: np.ndarray) -> None:
        single = frames.shape[-1] == 1
        for frame in frames:
            self._file.write(
                frame[..., 0] if single else np.moveaxis(frame, -1, 0),
                contiguous=True,
                photometric="minisblack",
                metadata={"axes": "TYX" if single else "TCYX"},
            )

    def _close_file(self) -> None:
        self._file.close()
