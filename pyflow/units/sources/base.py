"""What every reader of ROIs and traces offers, and what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import h5py
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


class SourceError(ValueError):
    """A file or folder that does not hold what its format promises."""


class Footprint(NamedTuple):
    """Pixels of an ROI: rows `y`, columns `x` and their weights, each (n,)."""

    y: np.ndarray
    x: np.ndarray
    weight: np.ndarray


class Source(ABC):
    """ROIs of one imaging plane in one session, with their traces.

    Opening reads nothing; each method opens the file, reads what is asked for and closes it. An ROI is named by its
    row: its place, from 0, among all ROIs of the source.

    Parameters
    ----------
    path : Path
        File or folder.
    group : str
        Plane, empty where there is only one.
    """

    kind: ClassVar[str]
    """Name of the format, as the unit store keeps it."""
    time_unit = "s"
    """Unit of the timestamps: ``"s"``, or ``"frames"`` where the source does not know its frame rate."""

    def __init__(self, path: str | Path, group: str = "") -> None:
        self.path, self.group = Path(path), group

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}{self.group and ' ' + self.group}>"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Height and width of the image, pixels."""

    @cached_property
    @abstractmethod
    def roi_ids(self) -> np.ndarray:
        """The source's own ids of its ROIs, (N,)."""

    @cached_property
    def cell_specimen_ids(self) -> np.ndarray | None:
        """Ids that are the same for one cell in all sessions, (N,), -1 for ROIs that are not followed.

        None where the source knows none.
        """
        return None

    @cached_property
    def experiment_id(self) -> int | None:
        """Number that the source itself has for its session and plane, None without one."""
        return None

    @abstractmethod
    def footprint(self, row: int) -> Footprint:
        """`Footprint` of the ROI in a row."""

    @abstractmethod
    def image(self) -> tuple[np.ndarray, str]:
        """Image of the plane and its name.

        Returns
        -------
        image : ndarray, shape (H, W)
            The maximum projection; where there is none, the best image there is.
        name : str
            What it is, for example ``"maximum projection"``.
        """

    @property
    @abstractmethod
    def trace_kinds(self) -> tuple[str, ...]:
        """Names that `traces` accepts, a tuple of str."""

    @abstractmethod
    def _timestamps(self, kind):
        """Times of the samples, (T,) float64."""

    @abstractmethod
    def _traces(self, kind, rows):
        """Traces of the ROIs in rows, (n, T)."""

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """What the source says of its session, a dict."""

    def experiment(self) -> dict[str, Any]:
        """What `metadata` says under AllenSDK's keys; empty, and nothing read, where the format knows none of them."""
        return {}

    def motion_correction(self) -> pd.DataFrame:
        """Translations that registration applied: columns `x_motion`, `y_motion` (pixels), `timestamp`.

        Raises
        ------
        SourceError
            The source does not keep them.
        """
        raise SourceError(f"{self.path}: {self.kind} results keep no motion correction")

    def stimuli(self) -> list[str]:
        """Names of the stimuli that were shown, sorted; empty where the source keeps none."""
        return []

    def stimulus_table(self, name: str) -> pd.DataFrame:
        """When a stimulus was shown.

        Parameters
        ----------
        name : str
            One of `stimuli`, or ``"master"`` for all of them, told apart by column `stimulus`.

        Returns
        -------
        DataFrame
            A row per presentation, in order of time. `start` and `end` count the samples of the traces. `frame` is
            the image of `stimulus_template` and, of a movie, `repeat` says how often it was shown before; gratings
            have their parameters instead.

        Raises
        ------
        SourceError
            The source has no such stimulus.
        """
        raise SourceError(f"{self.path}: {self.kind} results keep no stimuli (asked for {name!r})")

    def stimulus_epochs(self) -> pd.DataFrame:
        """Stretches with one stimulus: DataFrame with columns `stimulus`, `start` and `end`, in order of time.

        Raises
        ------
        SourceError
            The source keeps no stimuli.
        """
        raise SourceError(f"{self.path}: {self.kind} results keep no stimuli")

    def stimulus_template(self, name: str) -> np.ndarray:
        """Images of a stimulus, (frame, y, x).

        Raises
        ------
        SourceError
            The source keeps no images of it.
        """
        raise SourceError(f"{self.path}: {self.kind} results keep no stimuli (asked for {name!r})")

    def running_speed(self) -> tuple[np.ndarray, np.ndarray]:
        """How fast the animal ran.

        Returns
        -------
        speed : ndarray, shape (T,)
            cm/s; NaN where it was not measured.
        timestamps : ndarray, shape (T,)

        Raises
        ------
        SourceError
            The source does not keep it.
        """
        raise SourceError(f"{self.path}: {self.kind} results keep no running speed")

    def pupil(self, what: str) -> tuple[np.ndarray, np.ndarray]:
        """The pupil over time.

        Parameters
        ----------
        what : {"location", "location_spherical", "size"}
            Its place on the monitor, (n, 2), in centimetres or degrees from the centre; or its area, pixels.

        Returns
        -------
        timestamps : ndarray, shape (n,)
        values : ndarray, shape (n, 2) or (n,)

        Raises
        ------
        SourceError
            The source does not keep it.
        """
        raise SourceError(f"{self.path}: {self.kind} results keep no pupil {what}")

    def neuropil_r(self, rows: Sequence[int]) -> np.ndarray:
        """Share of the neuropil that is subtracted from the ROIs in rows, (n,).

        Raises
        ------
        SourceError
            The source does not keep it.
        """
        raise SourceError(f"{self.path}: {self.kind} results keep no r of the neuropil")

    def timestamps(self, kind: str) -> np.ndarray:
        """Times of a kind's samples, (T,) float64, in `time_unit`."""
        self._check_kind(kind)
        return self._timestamps(kind)

    def traces(self, kind: str, rows: Sequence[int] | None = None) -> np.ndarray:
        """Traces of a kind.

        Parameters
        ----------
        kind : str
            One of `trace_kinds`.
        rows : sequence of int, optional
            In any order, repeats allowed; all by default.

        Returns
        -------
        ndarray, shape (n, T)

        Raises
        ------
        SourceError
            The source has no such kind, or is damaged.
        IndexError
            There is no such row.
        """
        self._check_kind(kind)
        return self._traces(kind, self._rows(rows))

    def masks(self, rows: Sequence[int] | None = None) -> np.ndarray:
        """Pixels of ROIs, (n, H, W) uint8, 1 inside; arguments as of `traces`."""
        rows = self._rows(rows)
        masks = np.zeros((len(rows), *self.shape), np.uint8)
        for mask, row in zip(masks, rows, strict=True):
            y, x, _ = self.footprint(row)
            mask[y, x] = 1
        return masks

    def _check_kind(self, kind):
        if kind not in self.trace_kinds:
            raise SourceError(f"{self.path}: no {kind!r} traces; it has {', '.join(self.trace_kinds) or 'none'}")

    def _rows(self, rows):
        n = len(self.roi_ids)
        rows = np.arange(n) if rows is None else np.asarray(rows, dtype=np.int64).reshape(-1)
        if (outside := rows[(rows < 0) | (rows >= n)]).size:
            raise IndexError(f"{self.path}: ROI {outside[0]} of {n}")
        return rows


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; what is damaged or missing in it becomes a `SourceError`."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except KeyError as error:
        raise SourceError(f"{path}: {error.args[0] if error.args else error}") from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SourceError(f"{path}: not a readable HDF5 file: {error}") from error


def dataset(group: h5py.Group, name: str, ndim: int | None = None) -> h5py.Dataset:
    """Return the data set of a name, or raise `SourceError` saying what is there instead."""
    found = group.get(name)
    where = f"{group.file.filename}: {group.name.rstrip('/')}/{name}"
    if not isinstance(found, h5py.Dataset):
        raise SourceError(f"{where}: expected a data set, found {'a group' if found is not None else 'nothing'}")
    if ndim is not None and found.ndim != ndim:
        raise SourceError(f"{where}: expected {ndim} dimensions, found shape {found.shape}")
    return found


def take(data: h5py.Dataset, rows: ArrayLike, axis: int = 0) -> np.ndarray:
    """Rows (or columns) of a data set in any order, repeats allowed, reading each once; they come first in the result.

    h5py itself wants increasing indices without repeats.
    """
    unique, back = np.unique(np.asarray(rows, np.int64), return_inverse=True)
    first, stop = (int(unique[0]), int(unique[-1]) + 1) if unique.size else (0, 0)
    if stop > data.shape[axis]:
        raise SourceError(
            f"{data.file.filename}: {data.name} has {data.shape[axis]} ROIs, but the table of ROIs has more "
            f"(asked for {stop - 1})"
        )
    if stop - first == unique.size:
        unique = slice(first, stop)  # read in one piece
    found = data[unique] if axis == 0 else np.moveaxis(data[(slice(None),) * axis + (unique,)], axis, 0)
    return found if np.array_equal(back, np.arange(len(found))) else found[back]


def text(value: Any) -> Any:
    """A scalar from HDF5 as str or number; arrays of bytes as lists of str."""
    value = value[()] if isinstance(value, h5py.Dataset) else value
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
        return [item.decode() if isinstance(item, bytes) else str(item) for item in value.ravel()]
    return value.item() if isinstance(value, np.generic) else value


def translations(x: np.ndarray, y: np.ndarray, timestamps: np.ndarray) -> pd.DataFrame:
    """Table of `Source.motion_correction`."""
    return pd.DataFrame({"x_motion": x, "y_motion": y, "timestamp": timestamps})
