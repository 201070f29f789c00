"""Files that hold something of every recording, written a recording at a time.

numpy and scipy want to have in memory what they write. For a thousand recordings that is too much, so stacks and cell
arrays are written here piece by piece, in the same formats: ``.npz`` (a zip file of ``.npy`` files) and version 5 of
``.mat`` (https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf), to which scipy writes what is small.
"""

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.io

from pyflow.io.atomic import replacing

_LEVEL = 1  # of compression: a third of the usual level's time, and a few per cent more bytes

# What a variable of a version 5 .mat may hold: MATLAB's own limit.
MAT_VARIABLE_BYTES = 2**31 - 1

# MATLAB's numbers for types: of the class that a variable has there, of the samples in the file.
_MAT_TYPES = {"bool": (9, 2), "float32": (7, 7), "float64": (6, 9)}
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_CELL = 1
_LOGICAL = 1 << 9


@dataclass(frozen=True)
class Stack:
    """Arrays of one shape and type, made one after the other when they are written.

    Parameters
    ----------
    shape
        Of one array.
    dtype
        Of all.
    count
        How many there are.
    pieces
        Makes them; called once for every file they are written to.
    cells
        In a .mat: an N x 1 cell array of them; otherwise they are stacked along a last axis.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    count: int
    pieces: Callable[[], Iterable[np.ndarray]]
    cells: bool = True

    def __iter__(self) -> Iterator[np.ndarray]:
        """Make the arrays.

        Raises
        ------
        ValueError
            One is of another shape than said, which would damage the file.
        """
        for piece in self.pieces():
            if piece.shape != self.shape:
                raise ValueError(f"an array of shape {piece.shape} among those of shape {self.shape}")
            yield piece.astype(self.dtype, copy=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays together."""
        return self.count * self.piece_bytes

    @property
    def piece_bytes(self) -> int:
        """Bytes of one array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def save_npz_stacks(path: Path, arrays: Mapping[str, np.ndarray | Stack]) -> None:
    """Write arrays and stacks (N, ...) as `numpy.savez_compressed` does, whole or not at all.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive,
    ):
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                if not isinstance(array, Stack):
                    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
                    continue
                header = {
                    "descr": np.lib.format.dtype_to_descr(np.dtype(array.dtype)),
                    "fortran_order": False,
                    "shape": (array.count, *array.shape),
                }
                np.lib.format.write_array_header_1_0(file, header)
                for piece in array:
                    file.write(np.ascontiguousarray(piece).data)


def save_mat_stacks(path: Path, variables: Mapping[str, Any]) -> list[str]:
    """Write variables and stacks as a version 5 .mat, compressed, whole or not at all.

    Parameters
    ----------
    path
        The file.
    variables
        Stacks, and anything that `scipy.io.savemat` writes.

    Returns
    -------
    list of str
        Names of the stacks that are larger than a variable may be there, and were left out.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    stacks = {name: value for name, value in variables.items() if isinstance(value, Stack)}
    left_out = [name for name, stack in stacks.items() if _matrix_bytes(name, stack) > MAT_VARIABLE_BYTES]
    small = {name: value for name, value in variables.items() if name not in stacks}
    with replacing(path) as temporary:
        scipy.io.savemat(temporary, small, appendmat=False, do_compression=True, oned_as="column")
        with open(temporary, "r+b") as file:
            file.seek(0, 2)
            for name, stack in stacks.items():
                if name not in left_out:
                    _compressed(file, _matrix(name, stack))
    return left_out


def _compressed(file: BinaryIO, parts: Iterable[bytes]) -> None:
    """Write a compressed element, whose length is known, and put in its place, at the end."""
    start = file.tell()
    file.write(struct.pack("<II", _COMPRESSED, 0))
    compressor = zlib.compressobj(_LEVEL)
    for part in parts:
        file.write(compressor.compress(part))
    file.write(compressor.flush())
    end = file.tell()
    file.seek(start)
    file.write(struct.pack("<II", _COMPRESSED, end - start - 8))
    file.seek(end)


def _matrix(name: str, stack: Stack) -> Iterator[bytes]:
    """Yield the bytes of a stack's variable, in order."""
    yield struct.pack("<II", _MATRIX, _matrix_bytes(name, stack))
    if stack.cells:
        yield _head(_CELL, (stack.count, 1), name)
        for piece in stack:
            yield struct.pack("<II", _MATRIX, _cell_bytes(stack))
            yield _head(_class(stack), stack.shape, "")
            yield struct.pack("<II", _samples(stack), stack.piece_bytes)
            yield _column_major(piece) + _padding(stack.piece_bytes)
        return
    yield _head(_class(stack), (*stack.shape, stack.count), name)
    yield struct.pack("<II", _samples(stack), stack.nbytes)
    for piece in stack:
        yield _column_major(piece)
    yield _padding(stack.nbytes)


def _matrix_bytes(name: str, stack: Stack) -> int:
    """Bytes of a stack's variable, without its own tag."""
    if stack.cells:
        return len(_head(_CELL, (stack.count, 1), name)) + stack.count * (8 + _cell_bytes(stack))
    head = _head(_class(stack), (*stack.shape, stack.count), name)
    return len(head) + 8 + stack.nbytes + len(_padding(stack.nbytes))


def _cell_bytes(stack: Stack) -> int:
    return len(_head(_class(stack), stack.shape, "")) + 8 + stack.piece_bytes + len(_padding(stack.piece_bytes))


def _head(mat_class: int, shape: tuple[int, ...], name: str) -> bytes:
    """Return what stands before a variable's samples: its class, its size and its name."""
    size, text = struct.pack(f"<{len(shape)}i", *shape), name.encode("ascii")
    flags = struct.pack("<IIII", _UINT32, 8, mat_class, 0)
    return flags + b"".join(
        struct.pack("<II", kind, len(content)) + content + _padding(len(content))
        for kind, content in ((_INT32, size), (_INT8, text))
    )


def _class(stack: Stack) -> int:
    number = _MAT_TYPES[np.dtype(stack.dtype).name][0]
    return number | _LOGICAL if stack.dtype == bool else number


def _samples(stack: Stack) -> int:
    return _MAT_TYPES[np.dtype(stack.dtype).name][1]


def _column_major(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(order="F")


def _padding(n_bytes: int) -> bytes:
    return b"\0" * (-n_bytes % 8)
