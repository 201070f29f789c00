"""Which axis of an array is time, which are rows and columns: what a file says, what the user says, or a named rule."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyflow.io.readers.video import as_slice

# Time, planes, channels, rows, columns; in files of microscopes rows and columns are Y and X.
LETTERS = "TZCHW"
_SAME = {"Y": "H", "X": "W"}

# What files call their axes.
_NAMES = {
    name: letter
    for letter, names in {
        "T": "t time frame frames",
        "Z": "z plane planes depth slice slices",
        "C": "c ch channel channels",
        "H": "h y height row rows",
        "W": "w x width col cols column columns",
    }.items()
    for name in names.split()
}

# What Flow-Registration, pyflowreg and pyflow call their arrays: channels, masks and displacements.
TOOLBOX_NAME = re.compile(r"ch\d+|idx|u|v", re.IGNORECASE)

# An axis this short in second place of four is taken for the detectors of a two-photon microscope; a longer one may
# just as well count planes.
DETECTORS = 2

# A last axis this short holds channels. A last but longer one may be columns, planes or time.
MOST_CHANNELS = 4

# Frames this much longer than wide are improbable where other axes would make a frame that is not.
_LONG = 2.5

# Sides shorter than this are no frame of a microscope, whatever else is odd.
_SHORTEST_SIDE = 32

# To tell time from rows: pairs of slices that are looked at; the shortest side; by how much neighbours have to resemble
# each other more than others do, at least, in standard deviations of chance, and in times of what they do along the
# other axis. Of real recordings the last number is above 5, and above 2 with their axes exchanged.
_PAIRS = 8
_LEAST_SIDE = 12
_UNLIKE = 0.1
_UNLIKELY = 5.0
_CLEARLY = 1.5
_TINY = 1e-9  # so that slices without anything in them have a correlation

# More channels than any microscope has detectors: in truth frames.
MOST_DETECTORS = 16


def normal_axes(axes: str, name: str) -> str:
    """Return axes in the letters that pyflow uses.

    Parameters
    ----------
    axes
        Letters, slowest first: T time, Z planes, C channels, H or Y rows, W or X columns, in any case.
    name
        What they belong to, for messages.

    Raises
    ------
    ValueError
        Another letter, one twice, or no rows or columns.
    """
    found = "".join(_SAME.get(letter, letter) for letter in str(axes).upper())
    wrong = [letter for letter in found if letter not in LETTERS]
    if wrong or len(set(found)) < len(found) or not {"H", "W"} <= set(found):
        raise ValueError(
            f"{name}: axes={axes!r}, expected each once of T (time), Z (planes), C (channels), H (rows), W (columns), "
            "at least H and W"
        )
    return found


def axes_by_name(names: Sequence[str]) -> str | None:
    """Return axes from what a file calls them, such as ``t``, ``time`` or ``frames``; None where one is not known."""
    axes = "".join(_NAMES.get(str(name).strip().lower(), "?") for name in names)
    return None if "?" in axes or len(set(axes)) < len(axes) or not {"H", "W"} <= set(axes) else axes


def toolbox_axes(*, matlab: bool) -> tuple[str, str]:
    """Return the axes of an array of three that has a name of `TOOLBOX_NAME`, and where they are from."""
    axes = "HWT" if matlab else "THW"
    return axes, f"the name of the array, under which Flow-Registration and pyflow write {axes}"


def axes_by_rule(shape: Sequence[int], name: str, *, matlab: bool = False) -> tuple[str, str, str]:
    """Guess the axes of an array about which nothing is said.

    The rule: three axes are (T, H, W). Four are (T, H, W, C) where the last has at most 4 entries, else (T, C, H, W)
    where the second has 1 or 2. In a file of MATLAB three are (H, W, T), and four (H, W, C, T) or (H, W, T, C) where
    the axis C has at most 4 entries and the other more.

    Parameters
    ----------
    shape
        Of the array; as MATLAB shows it, for one of MATLAB.
    name
        Of the array, for messages.
    matlab
        It is in a file of MATLAB.

    Returns
    -------
    axes, rule, doubt : str
        `rule` says how they were found; `doubt`, where the shape is improbable so, why, and the option that decides.

    Raises
    ------
    ValueError
        No rule fits; the message names the option that decides.
    """
    shape = tuple(shape)
    n_axes = len(shape)
    if matlab:
        few = [place for place in (2, 3) if n_axes == 4 and shape[place] <= MOST_CHANNELS]
        axes = "HWT" if n_axes == 3 else "HWTC" if few == [3] else "HWCT" if few == [2] else ""
    elif n_axes == 4:
        axes = "THWC" if shape[3] <= MOST_CHANNELS else "TCHW" if shape[1] <= DETECTORS else ""
    else:
        axes = "THW" if n_axes == 3 else ""
    if axes:
        where = f"no axes in the file, so by the rule for {n_axes} axes{' of MATLAB' * matlab}: {axes}"
        return axes, where, _doubt(shape, axes, name)
    known = {
        2: 'axes="HW" if it is one image',
        4: 'axes="HWCT" or axes="HWZT" and plane=0'
        if matlab
        else 'axes="TCHW" if the second axis holds channels, axes="TZHW" and plane=0 if planes, axes="CTHW" if the '
        "first holds channels",
        5: 'axes="TZCHW" and plane=0',
    }
    raise ValueError(
        f"{name}: shape {shape} says not which axis is time, rows or columns; say so, for example "
        f"{known.get(n_axes, 'with axes=...')}"
    )


def other_order(axes: str) -> str:
    """Return the other of the two orders in which programs write time, rows and columns; C stays where it is."""
    letters = iter({"THW": "HWT", "HWT": "THW"}[axes.replace("C", "")])
    return "".join("C" if letter == "C" else next(letters) for letter in axes)


def _doubt(shape: tuple[int, ...], axes: str, name: str) -> str:
    """Say why time, rows and columns are more likely in the other order; empty where they are not."""
    sizes = {letter: size for letter, size in zip(axes, shape, strict=True) if letter != "C"}
    others = dict(zip(other_order("".join(sizes)), sizes.values(), strict=True))

    def long(frame: dict[str, int]) -> bool:
        return max(frame["H"], frame["W"]) > _LONG * min(frame["H"], frame["W"])

    square = others["H"] == others["W"] and sizes["H"] != sizes["W"]
    if min(others["H"], others["W"]) < _SHORTEST_SIDE or not (square or (long(sizes) and not long(others))):
        return ""
    return (
        f"{name}: shape {shape} as {axes} would be {sizes['T']} frames of {sizes['H']} x {sizes['W']} pixels, "
        f'improbable; say axes="{other_order(axes)}" for {others["T"]} frames of {others["H"]} x {others["W"]}, or '
        f'axes="{axes}" if it is right'
    )


@dataclass(frozen=True)
class Layout:
    """How an array of some axes is a video of one plane.

    Parameters
    ----------
    axes
        Letters, see `normal_axes`, one per axis.
    shape
        Of the array.
    plane
        Which plane, counted from 0; None where there is but one.
    """

    axes: str
    shape: tuple[int, ...]
    plane: int | None

    @classmethod
    def of(cls, shape: Sequence[int], axes: str, plane: int | None, name: str) -> "Layout":
        """Check axes and plane against a shape.

        Raises
        ------
        ValueError
            Their number differs, the plane is missing or out of range, or there are no frames or no pixels.
        """
        shape = tuple(int(size) for size in shape)
        if len(axes) != len(shape):
            raise ValueError(f"{name}: axes={axes!r} names {len(axes)} axes, but the shape is {shape}")
        if 0 in shape:
            raise ValueError(f"{name} has shape {shape}: it holds no frames")
        n_planes = shape[axes.index("Z")] if "Z" in axes else 1
        return cls(axes, shape, check_plane(plane, n_planes, name))

    def _size(self, letter: str) -> int:
        return self.shape[self.axes.index(letter)] if letter in self.axes else 1

    @property
    def n_planes(self) -> int:
        """Planes in the array."""
        return self._size("Z")

    @property
    def video_shape(self) -> tuple[int, int, int, int]:
        """Shape (T, H, W, C) of the video."""
        return tuple(self._size(letter) for letter in "THWC")

    def take(self, indices: np.ndarray, get: Callable[[tuple[Any, ...]], np.ndarray]) -> np.ndarray:
        """Read frames of the plane.

        Parameters
        ----------
        indices
            Frames, not negative.
        get
            Indexes the array, with a slice or a list of increasing integers for time and slices and integers for the
            other axes.

        Returns
        -------
        ndarray
            (n, H, W, C).
        """
        if not len(indices):
            return np.empty((0, *self.video_shape[1:]))
        where = as_slice(indices)
        back = None
        if not isinstance(where, slice):  # h5py wants increasing indices
            where, back = np.unique(where, return_inverse=True)
        key = tuple(
            where if letter == "T" else (self.plane or 0) if letter == "Z" else slice(None) for letter in self.axes
        )
        found = np.asarray(get(key))
        letters = self.axes.replace("Z", "")
        for missing in set("TC") - set(letters):
            found, letters = found[..., np.newaxis], letters + missing
        frames = found.transpose([letters.index(letter) for letter in "THWC"])
        return frames if back is None else frames[back]


def neighbours(n_slices: int) -> np.ndarray:
    """Return which slices of so many `time_axis` looks at; none where they are too few."""
    if n_slices < 2 * _PAIRS:
        return np.empty(0, int)
    first = np.linspace(0, n_slices - 2, _PAIRS).astype(int)
    return np.stack([first, first + 1], axis=1).ravel()


def time_axis(slices: np.ndarray) -> int:
    """Tell whether the first axis is time, as was assumed, or the last is, and the first rows or columns.

    Along time, images far from each other resemble each other as those side by side do; along rows and columns they do
    not.

    Parameters
    ----------
    slices
        (2 n, A, B): pairs of slices that lie side by side, from all over the first axis.

    Returns
    -------
    int
        0 for the first, -1 for the last, 1 where there is nothing in the images to tell.
    """
    if slices.shape[0] < _PAIRS * 2 or min(slices.shape[1:]) < _LEAST_SIDE:
        return 1
    slices = np.nan_to_num(slices.astype(np.float64))
    first = np.corrcoef(slices.mean(axis=2) + _TINY * np.arange(slices.shape[1]))
    last = np.corrcoef(slices.mean(axis=0).T + _TINY * np.arange(slices.shape[1]))
    pairs = np.arange(len(first)) // 2
    side_by_side = (pairs[:, None] == pairs) & ~np.eye(len(first), dtype=bool)
    far = np.abs(pairs[:, None] - pairs) >= max(2, pairs[-1] // 3)
    along_first = first[side_by_side].mean() - first[far].mean()
    distance = np.abs(np.subtract.outer(np.arange(len(last)), np.arange(len(last))))
    along_last = last[distance == 1].mean() - last[distance >= len(last) // 3].mean()
    chance = _UNLIKELY / np.sqrt(slices.shape[1] * len(slices) / 2)
    if max(along_first, along_last) < max(_UNLIKE, chance):
        return 1
    return -1 if along_first > _CLEARLY * along_last else 0 if along_last > _CLEARLY * along_first else 1


class PlaneError(ValueError):
    """A recording has several planes and none was chosen; `n_planes` says how many."""

    def __init__(self, name: str, n_planes: int, frames: str = "") -> None:
        self.n_planes = n_planes
        of, instead = (" of one frame each", f'; say axes="{frames}" if they are frames') if frames else ("", "")
        super().__init__(
            f"{name}: {n_planes} planes{of}, of which one at a time is a recording; choose with plane=0 to "
            f"plane={n_planes - 1}{instead}"
        )


def check_plane(plane: int | None, n_planes: int, name: str, frames: str = "") -> int | None:
    """Return the plane to read; None where there is but one and none was asked for.

    Parameters
    ----------
    plane
        Asked for, counted from 0.
    n_planes, name
        How many there are, and in what.
    frames
        Axes to say where these are frames, which many programs call planes; empty where they cannot be.

    Raises
    ------
    ValueError
        There are several and none was chosen, or it is out of range.
    """
    if n_planes > 1 and plane is None:
        raise PlaneError(name, n_planes, frames)
    if plane is not None and not 0 <= plane < n_planes:
        raise ValueError(f"{name}: plane={plane}, but there are {n_planes} planes, counted from 0")
    return plane
