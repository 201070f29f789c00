"""How recordings are opened, where their files do not say enough: the ``[reader]`` table."""

import difflib
import re
from typing import Any, Literal

import numpy as np
from pydantic import (
    ConfigDict,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from pyflow._help import Checked, one_line, short_help

_RANGE = re.compile(r"\s*(\d*)\s*:\s*(\d*)\s*")


@short_help
class ReaderOptions(Checked):
    """What a recording's files do not say, or which part of it to read.

    >>> ReaderOptions(n_channels=2, frames="100:2000").given()
    {'n_channels': 2, 'frames': '100:2000'}

    Parameters
    ----------
    n_channels, n_planes
        Pages of a TIFF file interleave so many.
    dataset
        Data set or array in an HDF5, NWB, MATLAB or Zarr file; several are one channel each.
    axes
        What is what, slowest axis first: T time, Z planes, C channels, H rows, W columns, such as ``"HWT"``.
    plane
        Of several planes the one to read, counted from 0.
    channels
        Channels to read, counted from 0. None: all.
    frames
        Frames to read, ``"first:stop"`` as in Python. None: all.
    frame_rate
        How fast the recording was taken, whatever the file says. Unit: frames per second.
    bin_size
        Number of successive frames averaged into one, float32, after `frames` were chosen; the last one may be made of
        fewer. Unit: frames.
    buffer_size
        Frames of a batch where the recording is iterated over or read by `VideoReader.read_batch`. None: a few
        megabytes. Unit: frames.
    files
        What several files are: ``"time"``, pieces of one recording, or ``"channels"``, one channel each. None: pieces
        of one where each holds a single frame, else channels. In a session, it joins the files of a folder whose names
        differ in the last number only.
    shape, dtype, offset
        Of a raw file: shape (T, H, W), or (H, W) for as many frames as there are; type of a pixel such as ``"uint16"``
        or ``">i2"``; bytes before the first frame.

    Raises
    ------
    pydantic.ValidationError
        An option is unknown or its value not of its kind.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_channels: PositiveInt | None = None
    n_planes: PositiveInt | None = None
    dataset: str | tuple[str, ...] | None = None
    axes: str | None = None
    plane: NonNegativeInt | None = None
    channels: tuple[NonNegativeInt, ...] | None = None
    frames: str | None = None
    frame_rate: PositiveFloat | None = None
    bin_size: PositiveInt = 1
    buffer_size: PositiveInt | None = None
    files: Literal["time", "channels"] | None = None
    shape: tuple[PositiveInt, ...] | None = None
    dtype: str | None = None
    offset: NonNegativeInt = 0

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, data: Any) -> Any:
        for name in data if isinstance(data, dict) else ():
            if name not in cls.model_fields:
                similar = difflib.get_close_matches(str(name), cls.model_fields, 1)
                hint = (
                    f"; did you mean {similar[0]!r}?" if similar else f", expected one of {', '.join(cls.model_fields)}"
                )
                raise ValueError(f"unknown reader option {name!r}{hint}")
        return data

    @field_validator("frames", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        if isinstance(value, slice | range):
            value = f"{value.start or 0}:{value.stop or ''}" if value.step in (None, 1) else str(value)
        if isinstance(value, list | tuple) and len(value) == 2:
            value = f"{value[0]}:{value[1]}"
        if value is not None and not _RANGE.fullmatch(str(value)):
            raise ValueError("expected 'first:stop', counted from 0")
        return value

    @field_validator("dtype", mode="before")
    @classmethod
    def _pixel(cls, value: Any) -> Any:
        if value is None:
            return value
        try:
            dtype = np.dtype(value)
        except TypeError:
            dtype = None
        if dtype is None or dtype.kind not in "uif":
            raise ValueError("expected an integer or floating type such as 'uint16'")
        return value if isinstance(value, str) else dtype.str

    def range_of(self, n_frames: int, name: str) -> range:
        """Return the frames to read of a number of them.

        Raises
        ------
        ValueError
            There are none.
        """
        first, stop = _RANGE.fullmatch(self.frames or ":").groups()
        found = range(n_frames)[int(first or 0) : int(stop) if stop else None]
        if not found or (stop and int(stop) > n_frames):
            raise ValueError(f"{name}: frames={self.frames!r}, but there are {n_frames} frames")
        return found

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, as JSON-able values."""
        return self.model_dump(mode="json", exclude_defaults=True)


def reader_options(options: ReaderOptions | dict[str, Any] | None) -> ReaderOptions:
    """Check options.

    Raises
    ------
    ValueError
        One is unknown or not of its kind; the message names it.
    """
    if isinstance(options, ReaderOptions):
        return options
    try:
        return ReaderOptions(**(options or {}))
    except ValidationError as error:
        raise ValueError(one_line(error)) from None
