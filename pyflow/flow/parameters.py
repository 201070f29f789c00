"""What to compute for one flow: the only list of the parameters, and the only place of their bounds."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pyflow._ext import _tensor

MIN_LEVEL = {"quality": 0, "balanced": 4, "fast": 6}
"""Finest level solved, by quality preset, as in the MATLAB toolbox."""


class Schedule(NamedTuple):
    """How a flow goes from coarse to fine, see `FlowParameters`."""

    eta: float
    iterations: int
    min_level: int


SCHEDULES = {
    "quality": Schedule(eta=0.6, iterations=20, min_level=0),
    "balanced": Schedule(eta=0.65, iterations=20, min_level=1),
    "fast": Schedule(eta=0.5, iterations=30, min_level=1),
}
"""By quality preset, for recordings whose alpha is found from their noise: such a flow is smooth, so that its unknowns
lie on a coarse grid (`auto_grid_spacing`), on which few sweeps reach as far as many do over pixels."""

CONSTANCIES = tuple(_tensor.CONSTANCIES)
"""What may be assumed constant along the motion: the gradient, the grey value, which neighbours are brighter."""

LARGEST_AUTO_SPACING = 4
"""Pixels per unknown that ``grid_spacing="auto"`` does not exceed."""

LIMITS: dict[str, tuple[float, float]] = {
    # below and above, float32 runs out of range where the images are flat
    "alpha": (1e-6, 1e6),
    # a block of sweeps between two updates is one wave in the solver, with room for 511
    "update_lag": (1, 500),
    "iterations": (1, 100_000),
    "min_level": (0, 1000),
    "levels": (1, 1000),
    "warping_steps": (1, 1000),
    # at 1 all levels are full size, and as many as `levels` says
    "eta": (0.01, 1.0),
    "grid_spacing": (1, 64),
    # above 1 a penalty grows faster than the quadratic one, and over-relaxed sweeps with lagged weights diverge
    "a_smooth": (0.01, 1.0),
    "a_data": (0.01, 1.0),
}
"""Least and largest value of each number."""


@dataclass(frozen=True, kw_only=True)
class FlowParameters:
    """Parameters of one flow, checked when they are made; equal where their values are.

    Attributes
    ----------
    alpha : tuple of float
        Smoothness weight along (x, y); one number stands for both. Larger is smoother.
    update_lag : int
        Sweeps between two updates of the robust weights.
    iterations : int
        Sweeps per level.
    min_level : int
        Finest level solved, 0 is full size.
    levels : int
        At most this many scalings.
    warping_steps : int
        How often each level warps the image anew and solves for what is left.
    eta : float
        Scale between neighbouring levels.
    a_smooth : float
        Exponent of the smoothness penalty; 1 is quadratic.
    a_data : tuple of float
        Exponent of the data penalty, one for all channels or one for each; one number stands for all.
    gnc_schedule : tuple of float, or None
        Graduated non-convexity, see `pyflow.get_displacement`.
    const_assumption : {"gc", "gray", "census"}
        Which image feature is assumed constant.
    grid_spacing : int
        Pixels per unknown along each side on every level; 1 is one unknown per pixel. ``"auto"`` stands for what
        `auto_grid_spacing` makes of alpha.
    warp_start : bool
        Warp the coarsest level by the field to start from. The MATLAB toolbox does not, and finds much of that field
        again; False is for comparisons with it.

    Raises
    ------
    ValueError
        A value is outside `LIMITS`, not finite, or of the wrong kind; the message names it.
    """

    alpha: tuple[float, float] = (1.5, 1.5)
    update_lag: int = 5
    iterations: int = 50
    min_level: int = 0
    levels: int = 100
    warping_steps: int = 1
    eta: float = 0.8
    a_smooth: float = 1.0
    a_data: tuple[float, ...] = (0.45,)
    gnc_schedule: tuple[float, ...] | None = None
    const_assumption: str = "gc"
    grid_spacing: int = 1
    warp_start: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _CHECKS[field.name](field.name, getattr(self, field.name)))
        if self.grid_spacing == "auto":
            object.__setattr__(self, "grid_spacing", auto_grid_spacing(min(self.alpha)))


def auto_grid_spacing(alpha: float) -> int:
    """Pixels per unknown that a smoothness weight allows for: the largest power of two up to sqrt(alpha), at most 4.

    With the normalised data term, whose weight is of order 1, alpha smooths the field over about sqrt(alpha) pixels.
    From alpha 15 on, 4 pixels per unknown change the field by 0.02 to 0.06 px in the mean, and what remains of the
    motion by no more than it falls with the noise that is fitted less (simulated, 4 to 40 photons per pixel).
    """
    spacing = 1
    while 2 * spacing <= min(math.sqrt(alpha), LARGEST_AUTO_SPACING):
        spacing *= 2
    return spacing


def level_of(quality: str, min_level: int | None = None) -> int:
    """Finest level solved: `min_level`, or that of the preset where it is None.

    Raises
    ------
    ValueError
        There is no such preset.
    """
    if min_level is not None:
        return min_level
    if quality not in MIN_LEVEL:
        raise ValueError(f"quality is {quality!r}, expected one of {', '.join(MIN_LEVEL)}")
    return MIN_LEVEL[quality]


def check_gnc_schedule(schedule: Sequence[float]) -> tuple[float, ...]:
    """Check how robust the penalties are from level to level, see `pyflow.get_displacement`.

    Raises
    ------
    ValueError
        Fewer than two numbers, the first not 0, the last not 1, or one below the one before.
    """
    values = tuple(float(value) for value in schedule)
    if len(values) < 2 or values[0] != 0 or values[-1] != 1 or not all(a <= b for a, b in pairwise(values)):
        raise ValueError(f"gnc_schedule is {schedule}, expected numbers that never fall, the first 0, the last 1")
    return values


def _number(name: str, value: Any) -> float:
    low, high = LIMITS[name]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise ValueError(f"{name} is {value!r}, expected a number from {low:g} to {high:g}")
    return number


def _whole(name: str, value: Any) -> int:
    low, high = LIMITS[name]
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        raise ValueError(f"{name} is {value!r}, expected a whole number from {low} to {high}")
    return number


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    values = np.atleast_1d(value).tolist()
    if not values:
        raise ValueError(f"{name} is {value!r}, expected at least one number")
    return tuple(_number(name, one) for one in values)


def _pair(name: str, value: Any) -> tuple[float, float]:
    values = _numbers(name, value)
    if len(values) > 2:
        raise ValueError(f"{name} is {value!r}, expected one number or a pair (x, y)")
    return values[0], values[-1]


def _schedule(name: str, value: Any) -> tuple[float, ...] | None:
    return None if value is None else check_gnc_schedule(value)


def _constancy(name: str, value: Any) -> str:
    if value not in CONSTANCIES:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(CONSTANCIES)}")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def _grid_spacing(name: str, value: Any) -> int | str:
    return value if isinstance(value, str) and value == "auto" else _whole(name, value)


_CHECKS = {
    "alpha": _pair,
    "update_lag": _whole,
    "iterations": _whole,
    "min_level": _whole,
    "levels": _whole,
    "warping_steps": _whole,
    "eta": _number,
    "a_smooth": _number,
    "a_data": _numbers,
    "gnc_schedule": _schedule,
    "const_assumption": _constancy,
    "grid_spacing": _grid_spacing,
    "warp_start": _flag,
}
