"""Level solvers by name.

A backend is a callable ``backend(geometry, reference, parameters)`` that binds everything constant on one level and
returns a callable ``increment(warped, u, v, n_threads) -> (du, dv)``: given the moving image warped by the current
displacement, the increment in full-size pixels. The pyramid around it is in `pyflow.flow.displacement`.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from pyflow._ext import _solver, _tensor

ZETA = 1e-6
"""Constant of the normalised data term, as in the MATLAB toolbox."""


@dataclass(frozen=True)
class LevelGeometry:
    """One level of the pyramid.

    Attributes
    ----------
    shape : tuple of int
        (rows, cols).
    spacing : tuple of float
        Rows and columns of the full-size image per row and column of this level, in pixels.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]


@dataclass(frozen=True)
class LevelParameters:
    """What the energy on one level needs.

    Attributes
    ----------
    alpha : tuple of float
        Smoothness weight along (x, y).
    a_smooth : float
        Exponent of the smoothness penalty; 1 is quadratic.
    a_data : ndarray, shape (C,), float32
        Exponent of the data penalty per channel.
    weight : ndarray, shape (C,), float32
        Weight of each channel's data term.
    weight_map : ndarray, shape (C, rows, cols), float32, or None
        Factor on it per pixel.
    constancy : {"gc", "gray"}
        Which image feature is assumed constant.
    iterations, update_lag : int
        Sweeps, and sweeps between two updates of the robust weights.
    """

    alpha: tuple[float, float]
    a_smooth: float
    a_data: np.ndarray
    weight: np.ndarray
    weight_map: np.ndarray | None
    constancy: str
    iterations: int
    update_lag: int


class NativeLevel:
    """Motion tensor and red-black SOR in C.

    Scratch is kept and lent to one call at a time, so that calls from several threads do not meet and repeated calls
    allocate nothing.
    """

    def __init__(self, geometry, reference, parameters):
        p = parameters
        self._geometry, self._reference, self._constancy = geometry, reference, _tensor.CONSTANCIES[p.constancy]
        self._params = _solver.LevelParams(
            geometry.shape, geometry.spacing, p.alpha, p.a_smooth, p.a_data, p.weight, p.weight_map, p.iterations,
            p.update_lag,
        )  # fmt: skip
        self._free = {}

    def __call__(self, warped, u, v, n_threads):
        """Increment (du, dv) of the displacement (u, v), in full-size pixels."""
        free = self._free.setdefault(n_threads, deque())
        tensor, scratch = self._borrow(free, n_threads)
        for c, (f1, f2) in enumerate(zip(self._reference, warped, strict=True)):
            _tensor.motion_tensor(f1, f2, *self._geometry.spacing, self._constancy, ZETA, tensor[c], n_threads)
        du, dv = np.empty_like(u), np.empty_like(v)
        _solver.solve(self._params, tensor, u, v, du, dv, scratch, n_threads)
        free.append((tensor, scratch))
        return du, dv

    def _borrow(self, free, n_threads):
        try:
            return free.pop()
        except IndexError:
            tensor = _aligned_zeros((len(self._reference), *_tensor.layout_shape(*self._geometry.shape)))
            return tensor, np.zeros(self._params.scratch_size(n_threads), np.float32)


def _aligned_zeros(shape):
    """float32 zeros whose first element starts a cache line, so that no vector crosses two."""
    line = 64
    size = math.prod(shape) * 4
    raw = np.zeros(size + line, np.uint8)
    start = -raw.ctypes.data % line
    return raw[start : start + size].view(np.float32).reshape(shape)


_BACKENDS = {"flowreg": NativeLevel}


def register_backend(name, backend):
    """Make a level solver available under a name.

    Parameters
    ----------
    name : str
    backend : callable
        See the module's description.
    """
    _BACKENDS[name] = backend


def get_backend(name):
    """The level solver of that name.

    Raises
    ------
    ValueError
        There is none; the message lists what there is.
    """
    if name not in _BACKENDS:
        raise ValueError(f"backend is {name!r}, expected one of {', '.join(sorted(_BACKENDS))}")
    return _BACKENDS[name]
