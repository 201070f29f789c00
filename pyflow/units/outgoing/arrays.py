"""A link set as plain arrays, for Python (.npz) and MATLAB (.mat)."""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from pyflow.units.store.frames import Gathered

_FAST = 1  # of zlib's levels: the large arrays are mostly absent members, which shrink as well as they ever will

# MATLAB's file format, version 5: types of data and classes of arrays
_INT8, _UINT8, _INT32, _UINT32, _DOUBLE, _MATRIX, _COMPRESSED = 1, 2, 5, 6, 9, 14, 15
_CELL_CLASS, _CHAR_CLASS, _DOUBLE_CLASS = 1, 4, 6
_LARGEST = 2**31  # bytes of a variable


def arrays(gathered: Gathered, *, base: int = 0) -> dict[str, np.ndarray]:
    """A link set as plain arrays.

    Parameters
    ----------
    gathered : Gathered
        What `UnitStore.gather` returns.
    base : int
        What the first index is.

    Returns
    -------
    dict of str to ndarray
        S sessions: `session_name`, `session_start_time`, `session_source`. U units: `unit_session` (index of its
        session), `unit_group`, `unit_name`, `unit_original_index`. N multi-session units: `number`, `global_id`,
        `label`, `member` (N, S): index of its unit in each session. `link_set`: the name; `index_base`: `base`, where
        all indices start; what is absent is one less.
    """
    claim, sessions, units = gathered
    session = pd.Index(sessions["session_id"]).get_indexer(units["session_id"])
    followed = units[units["identity"].notna()]
    identities = followed.drop_duplicates("identity_number").sort_values("identity_number")
    member = np.full((len(identities), len(sessions)), base - 1, np.int32)
    row = np.searchsorted(identities["identity_number"].to_numpy(np.int64), followed["identity_number"])
    member[row, session[followed.index]] = followed.index + base
    return {
        "link_set": np.array(claim["name"]),
        "index_base": np.array(base),
        "session_name": _text(sessions["name"]),
        "session_start_time": _text(sessions["start_time"]),
        "session_source": _text(sessions["source"]),
        "unit_session": session + base,
        "unit_group": _text(units["group"]),
        "unit_name": _text(units["unit"]),
        "unit_original_index": units["original_index"].astype("Int64").fillna(-1).to_numpy(np.int64) + base,
        "number": identities["identity_number"].to_numpy(np.int64),
        "global_id": _text(identities["identity_id"]),
        "label": _text(identities["identity"]),
        "member": member,
    }


def _text(column):
    return np.array(column.fillna("").tolist(), dtype=str)


def write_npz(path: Path, gathered: Gathered) -> None:
    """Write `arrays`, as numpy's ``savez_compressed`` does, but fast."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_FAST) as archive:
        for name, array in arrays(gathered).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


# MATLAB: a text in each cell takes scipy minutes, so these files are written here. An element is a type, a size in
# bytes and as many bytes, filled up to eight; an array is an element that consists of elements: flags (its class),
# sizes, name and content.


def write_mat(path: Path, gathered: Gathered) -> None:
    """Write `arrays` as a MATLAB file (version 5): numbers as double columns, texts as cells of char rows."""
    with open(path, "wb") as file:
        file.write(b"MATLAB 5.0 MAT-file, written by pyflow".ljust(124) + struct.pack("<H2s", 0x0100, b"IM"))
        for name, array in arrays(gathered, base=1).items():
            _write_variable(file, name, array)


def _write_variable(file: BinaryIO, name: str, array: np.ndarray) -> None:
    if array.dtype.kind != "U":
        columns = array.reshape(len(array), *array.shape[1:2] or (1,)) if array.ndim else array.reshape(1, 1)
        small = columns.dtype == np.int32  # the class stays double: whole numbers are kept short, as MATLAB does itself
        kind, content = (_INT32, columns) if small else (_DOUBLE, columns.astype(np.float64))
        matrix = _matrix(_DOUBLE_CLASS, columns.shape, name, _element(kind, content.tobytes("F")))
    elif array.ndim:
        matrix = _matrix(_CELL_CLASS, (len(array), 1), name, b"".join(map(_char_row, array.tolist())))
    else:
        matrix = _char_row(array.item(), name)
    if len(matrix) >= _LARGEST:
        raise ValueError(f"{name}: {len(matrix)} bytes are too many for a .mat file; export as .npz")
    packed = zlib.compress(matrix, _FAST)
    file.write(struct.pack("<II", _COMPRESSED, len(packed)) + packed)


@lru_cache(1 << 16)
def _char_row(text: str, name: str = "") -> bytes:
    """A text, in Python's escapes where it is not ASCII, which is what all versions of MATLAB read."""
    content = text.encode("ascii", "backslashreplace")
    return _matrix(_CHAR_CLASS, (1 if content else 0, len(content)), name, _element(_UINT8, content))


def _matrix(kind: int, shape: Sequence[int], name: str, content: bytes) -> bytes:
    flags = struct.pack("<IIII", _UINT32, 8, kind, 0)
    sizes = struct.pack("<IIii", _INT32, 8, *shape)
    return _element(_MATRIX, flags + sizes + _element(_INT8, name.encode("ascii")) + content)


def _element(kind: int, content: Any) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)
