"""Videos in files without much of a header: .npy, raw, and the binary of suite2p."""

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.io.readers.axes import normal_axes
from pyflow.io.readers.stack import StackReader
from pyflow.io.readers.video import check_size
from pyflow.io.unpickle import load_npy

# As CaImAn names its memory maps.
_CAIMAN_NAME = re.compile(r"_d1_(?P<d1>\d+)_d2_(?P<d2>\d+)_d3_(?P<d3>\d+)_order_(?P<order>[CF])_frames_(?P<frames>\d+)")


class _FlatReader(StackReader):
    """An array as it lies in a file, from a byte on, in C or Fortran order."""

    def _open(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype,
        offset: int,
        *,
        axes: str | None,
        found: tuple[str, str] | None,
        plane: int | None,
        fortran: bool = False,
    ) -> None:
        self._size, needed = path.stat().st_size, offset + math.prod(shape) * dtype.itemsize
        if needed > self._size:
            raise ValueError(
                f"{path}: truncated: {shape} {dtype} from byte {offset} on are {needed} bytes, the file has "
                f"{self._size}"
            )
        self._lay_out(path, {path.name: shape}, {path.name: dtype}, axes, found, plane)
        self._stored, self._offset = dtype, offset
        self._order = "F" if fortran else "C"
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115

    def _take(self, name: str, key: tuple[Any, ...]) -> np.ndarray:
        layout = self._layout
        if self._order == "C" and layout.axes[0] == "T":  # plain reads: mapped pages would stay in memory
            inner = layout.shape[1:]
            which = key[0]
            frames = range(*which.indices(layout.shape[0])) if isinstance(which, slice) else which
            out = np.empty((len(frames), *inner), self._stored)
            step = math.prod(inner) * self._stored.itemsize
            breaks = np.flatnonzero(np.diff(frames) != 1) + 1
            for first, target in zip(np.split(np.asarray(frames), breaks), np.split(out, breaks), strict=True):
                if len(first):
                    self._file.seek(self._offset + int(first[0]) * step)
                    self._fill(target)
            check_size(self.path, self._file.fileno(), self._size)
            return out[(slice(None), *key[1:])]
        mapped = np.memmap(self.path, self._stored, "r", self._offset, layout.shape, self._order)
        found = np.array(mapped[key])
        check_size(self.path, self._file.fileno(), self._size)
        return found

    def _fill(self, target: np.ndarray) -> None:
        wanted = memoryview(target.reshape(-1).view(np.uint8))
        found = 0
        while found < len(wanted) and (count := self._file.readinto(wanted[found:])):
            found += count
        if found < len(wanted):
            raise ValueError(
                f"{self.path}: changed while it was read: expected {len(wanted)} bytes, found {found}, of "
                f"{os.fstat(self._file.fileno()).st_size} in all"
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NpyReader(_FlatReader):
    """Reads arrays of numpy.

    Parameters
    ----------
    path : Path
    axes : str, optional
        Such as ``"HWT"``; by default by the rule of `pyflow.io.readers.axes.axes_by_rule`.
    plane : int, optional
        Of several planes the one to read, counted from 0.

    Raises
    ------
    ValueError
        Not such a file, truncated, or its axes are not known.
    """

    def __init__(self, path: Path, *, axes: str | None = None, plane: int | None = None) -> None:
        path = Path(path)
        try:
            with open(path, "rb") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(file)
                offset = file.tell()
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{path}: not a readable .npy file: {error}") from error
        if dtype.hasobject:
            raise ValueError(f"{path}: holds Python objects, expected an array of numbers")
        self._open(path, shape, dtype, offset, axes=axes, found=None, plane=plane, fortran=fortran)
        self.origin["format"] = "npy"
        try:
            self._check_guess()
        except BaseException:
            self.close()
            raise


def _size_beside(path: Path) -> str:
    """Return what ThorImage's Experiment.xml beside a file says of its frames; empty without it."""
    try:
        text = (path.parent / "Experiment.xml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    sizes = [re.search(rf'<LSM\b[^>]*\b{name}="(\d+)"', text) for name in ("pixelY", "pixelX")]
    if not all(sizes):
        return ""
    height, width = (size[1] for size in sizes)
    return f"; Experiment.xml beside it says {height} rows of {width} pixels: shape=({height}, {width})"


class RawReader(_FlatReader):
    """Reads files that are nothing but pixels, such as those of ThorImage, as the user describes them.

    Parameters
    ----------
    path : Path
    shape : sequence of int
        (T, H, W), or by `axes`; one entry less, without the first, for as many frames as there are.
    dtype : str
        Type of a pixel, such as ``"uint16"``, or ``">u2"`` with the high byte first.
    offset : int
        Bytes before the first frame.
    axes : str, optional
        Slowest first; ``"THW"`` by default.
    plane : int, optional
        Of several planes the one to read, counted from 0.

    Raises
    ------
    ValueError
        The description is missing, or does not fit the file's size.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...] | None = None,
        dtype: str | None = None,
        *,
        offset: int = 0,
        axes: str | None = None,
        plane: int | None = None,
    ) -> None:
        path = Path(path)
        if shape is None or dtype is None:
            raise ValueError(
                f"{path}: a raw file says nothing of itself; describe it, for example with shape=(512, 512), "
                f'dtype="uint16", and offset= for bytes before the first frame{_size_beside(path)}'
            )
        letters, pixel = normal_axes(axes or "THW", str(path)), np.dtype(dtype)
        frame = shape if len(shape) < len(letters) else shape[1:]
        size, frame_bytes = path.stat().st_size - offset, math.prod(frame) * pixel.itemsize
        if size < 0 or size % frame_bytes:
            raise ValueError(
                f"{path}: {max(size, 0)} bytes after the first {offset} are no whole number of frames {tuple(frame)} "
                f"{pixel} of {frame_bytes} bytes"
            )
        found = size // frame_bytes
        if len(shape) == len(letters) and shape[0] != found:
            raise ValueError(f"{path}: shape {tuple(shape)} says {shape[0]} frames, the file has {found}")
        self._open(
            path, (found, *frame), pixel, offset, axes=None, found=(letters, "shape and dtype, as given"), plane=plane
        )
        self.origin["format"] = "raw"


class Suite2pReader(_FlatReader):
    """Reads the registered movie of suite2p: ``data.bin`` with ``ops.npy`` beside it.

    Parameters
    ----------
    path : Path
        ``data.bin``, or ``data_chan2.bin``.

    Raises
    ------
    ValueError
        There is no ``ops.npy`` beside it, or the number of frames that it says is not that of the file.
    """

    def __init__(self, path: Path) -> None:
        path = Path(path)
        ops_file = path.with_name("ops.npy")
        if not ops_file.is_file():
            raise ValueError(
                f"{path}: there is no ops.npy beside it, which says the size of its frames; put it there, or describe "
                'the file with shape=(H, W) and dtype="int16"'
            )
        ops = _read_ops(ops_file)
        height, width = int(ops["Ly"]), int(ops["Lx"])
        frame_bytes = height * width * 2
        size = path.stat().st_size
        if size % frame_bytes:
            raise ValueError(
                f"{path}: truncated: {size} bytes are no whole number of frames of {height} x {width} int16 pixels, as "
                f"{ops_file.name} says"
            )
        n_frames = size // frame_bytes
        said = ops.get("nframes")
        if said is not None and int(said) != n_frames:
            raise ValueError(f"{path}: {ops_file.name} says {int(said)} frames, the file has {n_frames}")
        shape = (n_frames, height, width)
        self._open(path, shape, np.dtype("<i2"), 0, axes=None, found=("THW", "ops.npy of suite2p"), plane=None)
        self.origin |= {"format": "suite2p binary", "frames": "size of the file"}
        if ops.get("fs"):
            self.frame_rate_hz, self.origin["frame rate"] = float(ops["fs"]), "ops.npy"


class CaimanReader(_FlatReader):
    """Reads the memory maps of CaImAn, whose names say their sizes and order.

    Parameters
    ----------
    path : Path
    plane : int, optional
        Of several planes the one to read, counted from 0.

    Raises
    ------
    ValueError
        The name says no sizes, or others than the file's.
    """

    def __init__(self, path: Path, *, plane: int | None = None) -> None:
        path = Path(path)
        found = _CAIMAN_NAME.search(path.name)
        if found is None:
            raise ValueError(
                f"{path}: the name of a memory map of CaImAn says its sizes, as in a_d1_512_d2_512_d3_1_order_C_frames_"
                "1000.mmap; this one does not"
            )
        height, width, n_planes, n_frames = (int(found[name]) for name in ("d1", "d2", "d3", "frames"))
        shape, axes = ((n_planes, width, height), "ZWH") if n_planes > 1 else ((width, height), "WH")
        # Pixels are counted down the columns; either they or the frames are the slower axis.
        shape, axes = ((*shape, n_frames), f"{axes}T") if found["order"] == "C" else ((n_frames, *shape), f"T{axes}")
        dtype = np.dtype("<f4")
        if (size := path.stat().st_size) != math.prod(shape) * dtype.itemsize:
            raise ValueError(
                f"{path}: its name says {n_frames} frames of {height} x {width} pixels, {math.prod(shape) * 4} bytes, "
                f"the file has {size}"
            )
        self._open(path, shape, dtype, 0, axes=None, found=(axes, "name of the file"), plane=plane)
        self.origin |= {"format": "memory map of CaImAn", "frames": "name and size of the file"}


def _read_ops(path: Path) -> dict[str, Any]:
    ops = load_npy(path)
    found = ops.item() if ops.shape == () and ops.dtype.hasobject else None
    if not isinstance(found, dict) or not all(isinstance(found.get(key), int | np.integer) for key in ("Ly", "Lx")):
        raise ValueError(f"{path}: expected the options of suite2p with Ly and Lx, the size of its frames")
    return found
