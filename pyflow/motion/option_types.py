"""Types of the options of a registration.

A type says it all: which values there are, what stands for them (a list or an array for a tuple, MATLAB's words for
ours), and what an error calls them.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, NonNegativeFloat, NonNegativeInt, Tag
from pydantic.fields import FieldInfo

from pyflow.flow.parameters import CONSTANCIES, LIMITS, check_gnc_schedule
from pyflow.motion.foreign import CONSTANCY_NAMES

T = TypeVar("T")


class _CannotChangeResult:
    """Marks the type of a field whose value cannot change a number in the result."""


class _AbsentByDefault:
    """Marks the type of a field that came later.

    At its default it is in no key, so that results are found which were made before there was such a field.
    """


Execution = Annotated[T, _CannotChangeResult()]
Later = Annotated[T, _AbsentByDefault()]


def can_change_result(field: FieldInfo) -> bool:
    """Tell whether another value of a field can change a number in the result."""
    return not any(isinstance(item, _CannotChangeResult) for item in field.metadata)


def absent_by_default(field: FieldInfo) -> bool:
    """Tell whether a field is in no key while it has its default, because it came later."""
    return any(isinstance(item, _AbsentByDefault) for item in field.metadata)


_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", re.IGNORECASE)

# 'first:stop' or 'first:stop:step', as in Python
SLICE = re.compile(r"(-?\d+)?:(-?\d+)?(:-?\d+)?")


def _one_of(expected: str, *, maps: bool = False, word: str | None = None) -> Discriminator:
    """Tell apart the alternatives of a field (`pyflow._help.KINDS`), so that an error speaks of the one that was meant.

    Where the only text is one `word`, another text may be a number in quotes.
    """

    def kind(value: Any) -> str:
        if maps and (
            (isinstance(value, np.ndarray) and value.ndim > 1)
            or (isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple))
        ):
            return "map"
        if isinstance(value, str | Path):
            return "text" if word in (None, value) else "number" if _NUMBER.fullmatch(str(value)) else "neither"
        return "list" if isinstance(value, list | tuple | range | np.ndarray) else "number"

    return Discriminator(kind, custom_error_type="wrong_kind", custom_error_message=f"Input should be {expected}")


def _one_or_many_rows(value: Any) -> Any:
    """Let ``(1, 1, 0.1)`` stand for ``((1, 1, 0.1),)``; arrays and lists are welcome."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    return (value,) if isinstance(value, list | tuple) and value and not isinstance(value[0], list | tuple) else value


def _plain(value: Any) -> Any:
    """Turn ranges and arrays into lists, and numpy numbers into Python's."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, range) else value


def _constancy(value: Any) -> Any:
    """Take the other programs' words as well."""
    return CONSTANCY_NAMES.get(value, value) if isinstance(value, str) else value


def _map_in_memory(value: Any) -> Any:
    """Take a copy of an image or a map of weights, so that these options stay what they are."""
    if not (isinstance(value, np.ndarray) and value.flags.owndata and not value.flags.writeable):  # of other options
        value = np.array(value)
        value.setflags(write=False)
    return value


def _with_a_step(text: str) -> str:
    if (parts := SLICE.fullmatch(text)) and parts[3] and int(parts[3][1:]) == 0:
        raise ValueError(f"expected 'first:stop', or 'first:stop:step' with a step other than 0, found {text!r}")
    return text


def within(name: str) -> Any:
    """Return the limits of a parameter of the flow, for a field that is called like it."""
    low, high = LIMITS[name]
    return Field(ge=low, le=high)


_Alpha = Annotated[float, within("alpha")]
_Side = Annotated[int, Field(ge=8)]

Preprocess = Callable[[np.ndarray], np.ndarray]
Sigma = tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat]

OutputFormat = Literal[
    "HDF5",
    "TIFF",
    "MAT",
    "MAT7",
    "CAIMAN_HDF5",
    "MULTIFILE_HDF5",
    "MULTIFILE_TIFF",
    "MULTIFILE_MAT",
    "MULTIFILE_MAT7",
    "ZARR",
    "SUITE2P",
    "ARRAY",
    "NULL",
]
Channels = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), BeforeValidator(_plain)]
Alpha = Annotated[
    Annotated[_Alpha, Tag("number")]
    | Annotated[tuple[_Alpha, _Alpha], Tag("list")]
    | Annotated[Literal["auto"], Tag("text")],
    _one_of("a number, a pair (x, y) or 'auto'", word="auto"),
]
Weight = Annotated[
    Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1), BeforeValidator(_plain), Tag("list")]
    | Annotated[Path, Tag("text")]
    | Annotated[np.ndarray, BeforeValidator(_map_in_memory), Tag("map")],
    _one_of("a list of numbers, a map (H, W) or (H, W, C), or a file name", maps=True),
]
GridSpacing = Annotated[
    Annotated[int, within("grid_spacing"), Tag("number")] | Annotated[Literal["auto"], Tag("text")],
    _one_of("a whole number or 'auto'", word="auto"),
]
GncSchedule = Annotated[tuple[float, ...], AfterValidator(check_gnc_schedule), BeforeValidator(_plain)]
Constancy = Annotated[Literal[CONSTANCIES], BeforeValidator(_constancy)]
Sigmas = Annotated[tuple[Sigma, ...], Field(min_length=1), BeforeValidator(_one_or_many_rows)]
Bidiphase = Annotated[
    Annotated[int, Field(ge=-100, le=100), Tag("number")] | Annotated[Literal["auto"], Tag("text")],
    _one_of("a whole number or 'auto'", word="auto"),
]
ReducedSize = Annotated[
    Annotated[_Side, Tag("number")] | Annotated[tuple[_Side, _Side], BeforeValidator(_plain), Tag("list")],
    _one_of("a whole number or a pair (rows, columns)"),
]
ReferenceFrames = Annotated[
    Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), BeforeValidator(_plain), Tag("list")]
    | Annotated[str, BeforeValidator(os.fspath), AfterValidator(_with_a_step), Tag("text")]
    | Annotated[np.ndarray, BeforeValidator(_map_in_memory), Tag("map")],
    _one_of("a list of frames, 'first:stop', an image (H, W) or (H, W, C), or a file name", maps=True),
]
