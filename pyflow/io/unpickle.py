"""NumPy files of pickled objects (suite2p's ``stat.npy`` and ``ops.npy``, track2p's matrices), read as data only.

A pickle is a program that may call anything it can name. Here it can name the few functions that rebuild numpy arrays
and scalars, in versions of our own that trust nothing; dict, list, tuple, str, numbers, None and bool need no name.
"""

import math
import pickle
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np


class UnsafePickleError(ValueError):
    """A pickle names something that data do not need.

    Attributes
    ----------
    path : Path
        The file.
    named : str
        What it names, as ``module.name``.
    """

    def __init__(self, path: str | Path, named: str) -> None:
        self.path, self.named = Path(path), named
        super().__init__(
            f"{path}: the pickle names {named}, expected only numpy arrays and scalars, dict, list, tuple, str, "
            "numbers, None and bool; nothing was executed"
        )


def load_npy(path: str | Path, *, mmap: bool = False) -> np.ndarray:
    """Load a ``.npy`` file, pickled objects included.

    Parameters
    ----------
    path : path-like
    mmap : bool
        Map an array of numbers into memory instead of reading it; objects are always read.

    Returns
    -------
    ndarray
        Of any dtype. In pickled objects, arrays are `numpy.ndarray` (a subclass), paths arrive as text and dates as
        None.

    Raises
    ------
    FileNotFoundError
        No such file.
    UnsafePickleError
        The pickle names anything else than numpy arrays and scalars.
    ValueError
        Not a ``.npy`` file, or damaged.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            dtype = _read_header(file, path.stat().st_size)
            if dtype.hasobject:
                return _load_objects(file, path, dtype)
        return np.load(path, allow_pickle=False, mmap_mode="r" if mmap else None)
    except (EOFError, ValueError) as error:
        if isinstance(error, UnsafePickleError):
            raise
        raise ValueError(f"{path}: not a readable .npy file: {error}") from error


def load_npz(path: str | Path, name: str) -> np.ndarray:
    """Load one array of numbers or text from a ``.npz`` file.

    Parameters
    ----------
    path : path-like
    name : str
        Of the array.

    Returns
    -------
    ndarray

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not such a file, damaged, or without that array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member.removesuffix(".npy") for member in archive.namelist()]
            if name not in names:
                raise ValueError(f"no array {name!r}; found {', '.join(map(repr, names)) or 'none'}")
            member = archive.getinfo(f"{name}.npy")
            with archive.open(member) as file:
                _read_header(file, member.file_size)
            with archive.open(member) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
    except (EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not a readable .npz file: {error}") from error


def _read_header(file, size):
    """Dtype of an array whose file has so many bytes; numpy itself would ask for the memory first."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    promised = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and promised > size - file.tell():
        raise ValueError(f"its header promises {promised} bytes (shape {shape}), found {size - file.tell()}")
    return dtype


def _load_objects(file, path, dtype):
    if dtype.kind != "O":
        raise ValueError(f"dtype {dtype}, expected plain objects")
    try:
        array = _Unpickler(file, path).load()
    except UnsafePickleError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its broken opcodes lead to
        raise ValueError(f"damaged pickle: {type(error).__name__}: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"holds a {type(array).__name__}, expected an array")
    return array.view(np.ndarray)


# numpy's own functions believe a state: a dtype that hides its objects would make bytes of the file into pointers, and
# a list shorter than its array would be read beyond its end. So states are checked here.


class _Dtype:
    """A dtype of numbers, text or objects."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.value = np.dtype(code)
        if self.value.kind not in "biufcSUO":
            raise ValueError(f"an array of {self.value}, expected numbers, text or objects")

    def __setstate__(self, state: Any) -> None:
        self.value = self.value.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array that is empty until its state comes."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or any(not isinstance(n, int) or n < 0 for n in shape):
            raise ValueError(f"an array of shape {shape!r} and dtype {dtype!r}")
        objects = dtype.value.kind == "O"
        wanted = math.prod(shape) * (1 if objects else dtype.value.itemsize)
        if type(data) is not (list if objects else bytes) or len(data) != wanted:
            raise ValueError(f"an array of shape {shape} with content of another size or kind")
        super().__setstate__((1, tuple(shape), dtype.value, bool(fortran), data))


def _reconstruct(*_):
    return _Array((0,), np.uint8)


def _scalar(dtype, data):
    if not isinstance(dtype, _Dtype) or dtype.value.kind == "O" or type(data) is not bytes:
        raise ValueError("a scalar without a plain value")
    return np.frombuffer(data, dtype.value)[0]


def _path(*parts):
    return str(PurePosixPath(*parts))


def _date(*_):
    return None


_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_ADMITTED = {
    ("builtins", "complex"): complex,
    ("numpy", "ndarray"): "numpy.ndarray",  # only ever handed to _reconstruct, which needs none
    ("numpy", "dtype"): _Dtype,
    **{(module, "_reconstruct"): _reconstruct for module in _ARRAY_MODULES},
    **{(module, "scalar"): _scalar for module in _ARRAY_MODULES},
    # suite2p keeps these among its options
    **{("datetime", name): _date for name in ("datetime", "date", "time", "timedelta", "timezone")},
    **{("pathlib", name): _path for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")},
    **{("pathlib._local", name): _path for name in ("PosixPath", "WindowsPath")},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, path: str | Path) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise UnsafePickleError(self._path, f"{module}.{name}")
        return _ADMITTED[module, name]
