"""Level solvers by name.

A backend is a callable ``backend(geometry, reference, parameters)`` that binds everything constant on one level and
returns a level: ``level(warped, flow, step, scratch, n_threads)`` writes into ``step`` (2, rows, cols) the increment in
full-size pixels, given the moving image (C, rows, cols) warped by the current displacement ``flow``. ``scratch`` is
float32 memory of at least ``level.scratch_size(n_threads)`` values that all levels share, so that no frame allocates
anything. The pyramid around it is in `pyflow.flow.displacement`.
"""

import math
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
    constancy : {"gc", "gray", "census"}
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
    """Motion tensor and red-black SOR in C."""

    def __init__(self, geometry, reference, parameters):
        p = parameters
        self._reference, self._constancy = reference, _tensor.CONSTANCIES[p.constancy]
        self._spacing = geometry.spacing
        self._params = _solver.LevelParams(
            geometry.shape, geometry.spacing, p.alpha, p.a_smooth, p.a_data, p.weight, p.weight_map, p.iterations,
            p.update_lag,
        )  # fmt: skip
        self._tensor_shape = (len(reference), *_tensor.layout_shape(*geometry.shape))
        self._tensor_size = math.prod(self._tensor_shape)

    def scratch_size(self, n_threads):
        """float32 values of scratch that a call on that many threads needs."""
        return self._tensor_size + self._params.scratch_size(n_threads)

    def __call__(self, warped, flow, step, scratch, n_threads):
        """Write the increment of the displacement `flow` into `step`."""
        tensor = scratch[: self._tensor_size].reshape(self._tensor_shape)
        for f1, f2, out in zip(self._reference, warped, tensor, strict=True):
            _tensor.motion_tensor(f1, f2, *self._spacing, self._constancy, ZETA, out, n_threads)
        _solver.solve(self._params, tensor, *flow, *step, scratch[self._tensor_size :], n_threads)


def aligned_zeros(size):
    """That many float32 zeros from the start of a cache line, so that no vector crosses two."""
    line = 64
    raw = np.zeros(4 * size + line, np.uint8)
    start = -raw.ctypes.data % line
    return raw[start : start + 4 * size].view(np.float32)


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
