"""Videos in TIFF files."""

import json
import math
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from pyflow.io.readers.axes import DETECTORS, MOST_CHANNELS, check_plane, neighbours, normal_axes, time_axis
from pyflow.io.readers.ome import read_ome
from pyflow.io.readers.page_order import PageOrder, order_by_axes
from pyflow.io.readers.scanimage import order_of, read_header, refuse_regions
from pyflow.io.readers.tiff_pages import ARTIST, DESCRIPTION, SOFTWARE, STACK, TiffPages
from pyflow.io.readers.video import VideoReader, check_size
from pyflow.threads import resolve_threads

# Of the files that a recording consists of, so many are open at a time.
_MOST_OPEN = 16

# An array was written, and nothing said of its axes.
_EVERY_IMAGE = "a shape and no axes in the header, so by the rule: every image is a frame"

# What a library may raise over a damaged page.
_DAMAGE = (tifffile.TiffFileError, struct.error, ValueError, OSError, RuntimeError, IndexError, TypeError)


class TiffReader(VideoReader):
    """Reads TIFF: classic and BigTIFF, ScanImage, ImageJ hyperstacks of any size, OME, compressed or not.

    Which page is which frame is what ScanImage, OME, ImageJ or tifffile wrote into the header, held against the pages
    that are there. Uncompressed pages are copied from disk; the others are decoded page by page.

    Parameters
    ----------
    path : Path
    n_channels, n_planes : int, optional
        The pages interleave so many channels, and planes. By default as the file's own metadata say.
    axes : str, optional
        Order of the pages, whatever the metadata say, such as ``"TCHW"``; ``"THW"``: every page is a frame.
    plane : int, optional
        Of a recording of several planes the one to read, counted from 0.
    alone : bool
        Of a set of OME files only this one.

    Raises
    ------
    ValueError
        Not a TIFF file, truncated, other than its header says, of several planes of which none was chosen, or the pages
        do not make a video.
    """

    def __init__(
        self,
        path: Path,
        n_channels: int | None = None,
        *,
        n_planes: int | None = None,
        axes: str | None = None,
        plane: int | None = None,
        alone: bool = False,
    ) -> None:
        self.path = Path(path)
        self._files = [TiffPages(self.path)]
        self._n_images = len(self._files[0]) * self._files[0].kind.images
        self._images: np.ndarray | None = None  # file and image in it, where there are several files
        self._alone = alone
        self._open: dict[int, tuple[BinaryIO, tifffile.TiffFile | None]] = {}
        name = str(self.path)
        if axes is None:
            order = self._order_in_metadata(n_channels, n_planes, name)
            order.check(name)
        else:
            letters = normal_axes(axes, name)
            unsaid = ("C" in letters and not n_channels) or ("Z" in letters and not n_planes)
            known = self._order_in_metadata(None, None, name) if unsaid else None
            order = order_by_axes(letters, self._n_images, n_channels, n_planes, known, name)
        for pages in self._files:
            if pages.damage:
                raise ValueError(pages.damage)
        self.n_planes = len(order.planes)
        as_frames = ("TCHW" if order.planes[0].shape[1] > 1 else "THW") if max(map(len, order.planes)) == 1 else ""
        self.plane = check_plane(plane, self.n_planes, name, as_frames)
        self._table = order.planes[self.plane or 0]
        if not len(self._table):
            raise ValueError(f"{name}: plane {self.plane or 0} has no frames: the recording ended before it")
        self.origin, self.frame_rate_hz = {"format": "TIFF", **order.origin}, order.frame_rate_hz
        kind = self._files[0].kind
        self._stored_dtype = kind.dtype and kind.dtype.newbyteorder(self._files[0].byteorder)
        self.dtype = kind.dtype or self._decoded_dtype()
        samples = math.prod(kind.shape[2:])
        self.shape = (len(self._table), kind.height, kind.width, self._table.shape[1] * samples)
        self._image_bytes = kind.height * kind.width * samples * self.dtype.itemsize
        if self.origin.get("axes") == _EVERY_IMAGE and time_axis(self._read(neighbours(len(self)))[..., 0]) == -1:
            self.rest()
            raise ValueError(
                f"{name}: {len(self)} frames of {kind.height} x {kind.width} pixels, which look like rows of an image, "
                'with time as the last axis; write the array with time first, or say axes="THW" if it is right'
            )

    # ---- which page is what

    def _order_in_metadata(self, n_channels: int | None, n_planes: int | None, name: str) -> PageOrder:
        """Return the order of pages by what the file says of itself."""
        pages = self._files[0]
        description, software = pages.text(0, DESCRIPTION), pages.text(0, SOFTWARE)
        header = read_header(description, software)
        if header is not None:
            refuse_regions(name, software or description, pages.text(0, ARTIST))
            return order_of(header, self._n_images, n_channels, name).divided(None, n_planes, name)
        order = None
        if "<OME" in description[:2000]:
            order = self._order_in_ome(description)
        elif description.startswith("ImageJ="):
            order = self._order_in_imagej(description)
        elif shaped := _shaped(description):
            order = self._order_in_shapes(shaped, bool(n_channels or n_planes), name)
        elif len(pages) == 1 and (n_frames := pages.count(0, STACK)) > 1:
            self._unfold(n_frames)
            origin = {"frames": "MetaMorph header", "axes": "a MetaMorph stack, taken for frames"}
            order = PageOrder.regular("T", [n_frames], origin)
        if order is None:
            origin = {"frames": "pages in the file", "axes": "no metadata, so by the rule: every page is a frame"}
            order = PageOrder.regular("TC", [len(pages), pages.kind.images], origin)
        return order.divided(n_channels, n_planes, name)

    def _order_in_ome(self, xml: str) -> PageOrder | None:
        kind, others = self._files[0].kind, {}

        def count_of(path: Path) -> int:
            others[path] = TiffPages(path)
            if others[path].kind != kind:
                raise ValueError(f"{self.path}: pages are {kind}, but in {path} of the same set {others[path].kind}")
            return len(others[path]) * kind.images

        found = read_ome(self.path, xml, self._n_images, math.prod(kind.shape[2:]), count_of, alone=self._alone)
        if found is None:
            return None
        self._files = [self._files[0], *(others[path] for path in found.files[1:])]
        self._images = found.images
        return found.order

    def _order_in_imagej(self, description: str) -> PageOrder | None:
        values = dict(line.partition("=")[::2] for line in description.splitlines())

        def number(key: str) -> int:
            return int(values[key]) if values.get(key, "").strip().isdigit() else 1

        n_channels, n_planes, n_frames = number("channels"), number("slices"), number("frames")
        announced = number("images") if "images" in values else n_channels * n_planes * n_frames
        if announced == 1:
            return None
        if self._n_images == 1:
            self._unfold(announced)
        elif announced != self._n_images:
            what = "truncated: " if announced > self._n_images else ""
            raise ValueError(
                f"{self.path}: {what}the header says {announced} pages, the file has {self._n_images}; if the header "
                'is of another file, say axes="THW"'
            )
        origin = dict.fromkeys(("axes", "frames", "channels", "planes"), "ImageJ header")
        if n_channels * n_planes * n_frames == 1:
            n_frames = announced
        elif n_planes == announced and values.get("hyperstack", "").strip() != "true":
            # What ImageJ was told no axes for it calls slices; only a hyperstack was told.
            if "spacing" in values and not {"fps", "finterval"} & set(values):
                raise ValueError(
                    f"{self.path}: the ImageJ header says {n_planes} slices with a spacing of "
                    f"{values['spacing'].strip()} {values.get('unit', '').strip()}".rstrip()
                    + " and no frame interval, so "
                    'they may be planes of one volume; if they are frames, say axes="THW"'
                )
            n_planes, n_frames = 1, announced
            origin["axes"] = "ImageJ header of a plain stack, whose slices are taken for frames"
        if n_channels * n_planes * n_frames != announced:
            raise ValueError(
                f"{self.path}: the ImageJ header says {announced} images, but {n_channels} channels x "
                f"{n_planes} planes x {n_frames} frames"
            )
        rate = _positive(values.get("fps"))
        if rate is None and values.get("tunit", "s").strip(' "') in ("s", "sec", "seconds"):
            period = _positive(values.get("finterval"))
            rate = 1 / period if period else None
        if rate:
            origin["frame rate"] = "ImageJ header"
        return PageOrder.regular("TZC", [n_frames, n_planes, n_channels], origin, rate)

    def _unfold(self, announced: int) -> None:
        """Take the only page for the first of images that lie one after the other, as a header says."""
        (pages,) = self._files
        kind = pages.kind
        if kind.images == 1 and kind.plain and pages.starts is not None:
            n_bytes = math.prod(kind.shape) * kind.dtype.itemsize
            if int(pages.starts[0]) + announced * n_bytes <= pages.size:
                pages.starts = pages.starts[0] + np.arange(announced, dtype=np.int64) * n_bytes
                self._n_images = announced
                return
        raise ValueError(
            f"{self.path}: truncated: the header says {announced} pages, the file has {len(pages)} in {pages.size} "
            "bytes"
        )

    def _order_in_shapes(self, shaped: dict[str, Any], interleaved: bool, name: str) -> PageOrder:
        """Return the order by the shapes that tifffile writes, one for all images that were written at once."""
        pages = self._files[0]
        kind, n_pixels = pages.kind, math.prod(pages.kind.shape)
        if shaped.get("truncated") and len(pages) == 1:
            self._unfold(math.prod(shaped["shape"]) // n_pixels)
        parts, done = [], 0
        while done < self._n_images:
            if parts:
                text = pages.text(done // kind.images, DESCRIPTION) if done % kind.images == 0 else ""
                shaped = _shaped(text) or {"shape": list(kind.shape)}
            count = max(1, math.prod(shaped["shape"]) // n_pixels)
            if done + count > self._n_images:
                raise ValueError(
                    f"{name}: truncated: the header says {done + count} pages, the file has {self._n_images}"
                )
            parts.append(self._part(shaped, count, interleaved, name))
            done += count
        axes, sizes, where = parts[0]
        for other_axes, other, _ in parts[1:]:
            if (axes, sizes[1:]) != (other_axes, other[1:]):
                raise ValueError(f"{name}: parts of other axes, {axes} {sizes} and {other_axes} {other}, in one file")
        origin = {"axes": where, "frames": "pages in the file", "channels": where, "planes": where}
        first, orders = 0, []
        for _, some, _ in parts:
            orders.append([plane + first for plane in PageOrder.regular(axes, some, {}).planes])
            first += math.prod(some)
        return PageOrder([np.concatenate(of_plane) for of_plane in zip(*orders, strict=True)], origin)

    def _part(
        self, shaped: dict[str, Any], count: int, interleaved: bool, name: str
    ) -> tuple[str, tuple[int, ...], str]:
        """Return axes and sizes over the images that were written at once, time first, and where they were found."""
        kind, shape, axes = self._files[0].kind, tuple(shaped["shape"]), shaped.get("axes")
        inner = len(kind.shape)
        if axes and len(axes) == len(shape):
            where = f"axes {axes} in the header"
            # Samples of a pixel are within a page, and no axis over pages.
            outer = [(axis, size) for axis, size in zip(axes, shape, strict=True) if axis not in "YX" and size > 1]
            if inner == 3 and outer and outer[-1][1] == kind.shape[2]:
                outer.pop()
            letters = "".join("C" if axis == "S" else axis for axis, _ in outer)
            unknown = [letter for letter in letters if letter not in "TZC"]
            if len(unknown) == 1 and "T" not in letters:
                letters = letters.replace(unknown[0], "T")
                unknown = []
            sizes = tuple(size for _, size in outer)
            if unknown or len(set(letters)) < len(letters) or math.prod(sizes) != count:
                raise ValueError(
                    f"{name}: axes {axes} {shape} in the header say not what is what; say so with axes=..., for "
                    'example axes="THW" where every page is a frame'
                )
            if "T" not in letters:
                letters, sizes = f"T{letters}", (1, *sizes)
            if letters[0] != "T" and self._n_images > count:
                raise ValueError(f"{name}: axes {axes} in the header, in a file of several parts; say axes=...")
            return letters, sizes, where
        outer_sizes = tuple(size for size in shape[: max(len(shape) - inner, 0)] if size > 1)
        if interleaved or len(outer_sizes) < 2 or math.prod(outer_sizes) != count:
            return "T", (count,), _EVERY_IMAGE
        if len(outer_sizes) == 2 and outer_sizes[1] <= DETECTORS:
            return "TC", outer_sizes, f"a shape and no axes in the header, so by the rule: {DETECTORS} are channels"
        if shape[-1] <= MOST_CHANNELS:
            raise ValueError(
                f"{name}: shape {shape} in the header, whose last axis seems to be channels, was written as images of "
                f"{shape[-2]} x {shape[-1]} pixels; write it as (T, C, H, W)"
            )
        raise ValueError(
            f'{name}: shape {shape} in the header says not which axis is time; say so, for example axes="TCHW" and '
            f'n_channels={outer_sizes[-1]}, or axes="TZHW", n_planes={outer_sizes[-1]} and plane=0'
        )

    # ---- reading

    def _decoded_dtype(self) -> np.dtype:
        try:
            dtype = self._file(0)[1].pages[0].dtype
        except _DAMAGE as error:
            raise ValueError(f"{self.path}: not a readable TIFF file: {error}") from error
        finally:
            self.rest()
        if dtype is None or dtype.kind not in "buif":
            raise ValueError(f"{self.path}: pixels of type {dtype}, expected real numbers")
        return np.dtype(dtype)

    def _file(self, number: int) -> tuple[BinaryIO, tifffile.TiffFile | None]:
        """Open a file, or take it from those that are."""
        if number not in self._open:
            pages = self._files[number]
            while len(self._open) >= _MOST_OPEN:
                _close(self._open.pop(next(iter(self._open))))
            with ExitStack() as stack:
                stream = stack.enter_context(open(pages.path, "rb", buffering=0))
                library = None
                if pages.starts is None:
                    library = tifffile.TiffFile(pages.path, is_scanimage=False, is_ome=False, is_stk=False)
                stack.pop_all()
            self._open[number] = stream, library
        return self._open[number]

    def _read(self, indices: np.ndarray) -> np.ndarray:
        if not len(indices):
            return np.empty((0, *self.shape[1:]), self.dtype)
        wanted = self._table[indices].ravel()
        if self._images is None:
            found = self._read_images(0, wanted)
        else:
            found = np.empty((len(wanted), *self._files[0].kind.shape), self.dtype)
            files, images = self._images[wanted].T
            breaks = np.flatnonzero(np.diff(files)) + 1
            pieces = zip(np.split(files, breaks), np.split(images, breaks), np.split(found, breaks), strict=True)
            for numbers, some, target in pieces:
                target[...] = self._read_images(int(numbers[0]), some)
        found = found.reshape(len(indices), self._table.shape[1], *self.shape[1:3], -1)
        frames = np.moveaxis(found, 1, 3).reshape(len(indices), *self.shape[1:])
        return np.ascontiguousarray(frames, dtype=self.dtype)

    def _read_images(self, number: int, images: np.ndarray) -> np.ndarray:
        """Read images of one file, in the order given."""
        pages = self._files[number]
        found = self._decode(number, images) if pages.starts is None else self._copy(number, images)
        check_size(pages.path, self._file(number)[0].fileno(), pages.size)
        return found

    def _copy(self, number: int, images: np.ndarray) -> np.ndarray:
        """Images that lie uncompressed in a file; those that follow each other are read at once.

        Plain reads, not a memory map: mapped pages would stay in the process's memory.
        """
        pages = self._files[number]
        within = images % pages.kind.images * self._image_bytes
        offsets = pages.starts[images // pages.kind.images] + within
        out = np.empty((len(images), *pages.kind.shape), self._stored_dtype)
        stream, _ = self._file(number)
        breaks = np.flatnonzero(np.diff(offsets) != self._image_bytes) + 1
        for first, target in zip(np.split(offsets, breaks), np.split(out, breaks), strict=True):
            wanted = memoryview(target.reshape(-1).view(np.uint8))
            found = 0
            stream.seek(int(first[0]))
            while found < len(wanted) and (count := stream.readinto(wanted[found:])):
                found += count
            if found < len(wanted):
                raise ValueError(
                    f"{pages.path}: changed while it was read: expected {len(wanted)} bytes from byte {first[0]} on, "
                    f"found {found}"
                )
        return out

    def _decode(self, number: int, images: np.ndarray) -> np.ndarray:
        """Images that a library has to decode, page by page, several at once."""
        pages = self._files[number]
        kind = pages.kind
        _, library = self._file(number)
        wanted = images // kind.images

        def decoded(page: int) -> np.ndarray:
            try:
                with library.filehandle.lock:
                    frame = tifffile.TiffFrame(library, page, offset=int(pages.directories[page]), keyframe=first)
                return frame.asarray(maxworkers=1).reshape(kind.images, *kind.shape)
            except _DAMAGE as error:
                raise ValueError(f"{pages.path}: page {page} of {len(pages)} cannot be decoded: {error}") from error

        try:
            library.filehandle.set_lock(True)
            library.filehandle.seek(int(pages.directories[0]))
            first = tifffile.TiffPage(library, 0)
        except _DAMAGE as error:
            raise ValueError(f"{pages.path}: page 0 of {len(pages)} cannot be decoded: {error}") from error
        out = np.empty((len(images), *kind.shape), self.dtype)
        breaks = np.flatnonzero(np.diff(wanted)) + 1
        with ThreadPoolExecutor(min(resolve_threads(0), len(breaks) + 1)) as pool:
            found = pool.map(decoded, (int(some[0]) for some in np.split(wanted, breaks)))
            pieces = zip(found, np.split(images, breaks), np.split(out, breaks), strict=True)
            for page, some, target in pieces:
                target[...] = page[some % kind.images]
        return out

    def rest(self) -> None:
        """Let go of the files until they are read again."""
        while self._open:
            _close(self._open.popitem()[1])

    def close(self) -> None:
        """Close the files."""
        self.rest()


def _close(opened: tuple[BinaryIO, tifffile.TiffFile | None]) -> None:
    stream, library = opened
    stream.close()
    if library is not None:
        library.close()


def _positive(text: str | None) -> float | None:
    try:
        found = float(text or "nan")
    except ValueError:
        return None
    return found if found > 0 and math.isfinite(found) else None


def _shaped(description: str) -> dict[str, Any] | None:
    """Return what tifffile wrote into a description, where it did."""
    try:
        found = json.loads(description) if description.startswith("{") else None
    except ValueError:
        return None
    shape = found.get("shape") if isinstance(found, dict) else None
    return found if isinstance(shape, list) and all(isinstance(size, int) and size > 0 for size in shape) else None
