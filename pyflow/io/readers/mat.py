"""Videos in MAT files of MATLAB, version 5 to 7; version 7.3 is HDF5."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from pyflow.io.readers.axes import TOOLBOX_NAME, toolbox_axes
from pyflow.io.readers.stack import StackReader, list_found

_CLASSES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "single", "double", "logical")

# What reading a damaged MAT file may raise.
_DAMAGE = (ValueError, TypeError, OSError, KeyError, IndexError, NotImplementedError, MemoryError, OverflowError)


class MatReader(StackReader):
    """Reads MAT files whose arrays are one per channel, ``ch1``, ``ch2`` ..., or one with all.

    A MAT file cannot be read in parts: its arrays are in memory from the first frame on.

    Parameters
    ----------
    path : Path
    dataset : str or sequence of str, optional
        Variables to read. By default ``ch1``, ``ch2`` ..., else the only one of 3 or 4 axes.
    axes : str, optional
        As MATLAB shows them, such as ``"HWT"``, which is also the rule for three axes.
    plane : int, optional
        Of a recording of several planes the one to read, counted from 0.

    Raises
    ------
    ValueError
        Not a MAT file, no such variable, or none or several that could be the video.
    """

    def __init__(
        self,
        path: Path,
        dataset: str | tuple[str, ...] | list[str] | None = None,
        *,
        axes: str | None = None,
        plane: int | None = None,
    ) -> None:
        try:
            found = scipy.io.whosmat(path)
        except _DAMAGE as error:
            raise ValueError(f"{path}: not a readable MAT file: {error}") from error
        videos = {name: shape for name, shape, kind in found if len(shape) in (3, 4, 5) and kind in _CLASSES}
        others = {name: f"{shape} {kind}" for name, shape, kind in found if name not in videos}
        names = _choose(path, videos, others, dataset)
        try:
            self._arrays = scipy.io.loadmat(path, variable_names=names)
            arrays = {name: self._arrays[name] for name in names}
        except _DAMAGE as error:
            raise ValueError(f"{path}: damaged: {', '.join(names)} cannot be read: {error}") from error
        self._lay_out(
            Path(path),
            {name: array.shape[::-1] for name, array in arrays.items()},
            {name: array.dtype for name, array in arrays.items()},
            axes,
            toolbox_axes(matlab=True) if TOOLBOX_NAME.fullmatch(names[0]) and arrays[names[0]].ndim == 3 else None,
            plane,
            matlab=True,
        )
        self._arrays = {name: array.T for name, array in arrays.items()}
        self.origin["format"] = "MAT, version 5 to 7"
        self._check_guess()

    def _take(self, name: str, key: tuple[Any, ...]) -> np.ndarray:
        return self._arrays[name][key]

    def close(self) -> None:
        """Let go of the arrays."""
        self._arrays = {}


def _choose(path: Path, videos: dict[str, tuple[int, ...]], others: dict[str, str], names: Any) -> list[str]:
    listed = list_found(videos, others)
    if names is not None:
        wanted = [names] if isinstance(names, str) else list(names)
        if missing := [name for name in wanted if name not in videos]:
            raise ValueError(f"{path}: no variable {missing[0]!r} of 3 or 4 axes; found: {listed}")
        return wanted
    channels = {name: int(name[2:]) for name in videos if re.fullmatch(r"ch\d+", name, re.IGNORECASE)}
    if channels:
        return sorted(channels, key=channels.__getitem__)
    if len(videos) != 1:
        problem = "which variable is the video? name one with dataset=" if videos else "no variable of 3 or 4 axes"
        raise ValueError(f"{path}: {problem}; found: {listed}")
    return list(videos)
