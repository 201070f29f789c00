"""Displacement between two images by variational optical flow.

The method is Flow-Registration's (Flotho et al., J. Biophotonics 2022, doi 10.1002/jbio.202100330), after Brox et al.
2004 and Zimmer et al. 2009: for a reference f1 and a moving image f2 find the field that minimises

    sum_c omega_c Psi_data(normalised gradient constancy residual) + alpha Psi_smooth(|grad u|^2 + |grad v|^2)

with Psi(s) = (s + 1e-5)^a.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pyflow.flow.backends import Prepared, get_backend
from pyflow.flow.filters import enlarge_field
from pyflow.flow.parameters import FlowParameters, level_of
from pyflow.flow.planes import flow_components, to_planes
from pyflow.threads import kernel_threads


def get_displacement(
    reference: ArrayLike,
    moving: ArrayLike,
    *,
    alpha: float | tuple[float, float] = 1.5,
    update_lag: int = 5,
    iterations: int = 50,
    min_level: int | None = None,
    levels: int = 100,
    warping_steps: int = 1,
    eta: float = 0.8,
    a_smooth: float = 1.0,
    a_data: float | Sequence[float] = 0.45,
    gnc_schedule: Sequence[float] | None = None,
    const_assumption: str = "gc",
    quality: str = "quality",
    grid_spacing: int | str = 1,
    uv: ArrayLike | None = None,
    warp_start: bool = True,
    weight: ArrayLike | None = None,
    n_threads: int = 0,
    backend: str = "flowreg",
    backend_params: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Displacement that registers ``moving`` onto ``reference``.

    To register many images onto one reference, `prepare` it once.

    Parameters
    ----------
    reference, moving : array_like, shape (H, W) or (H, W, C)
        Images of one shape; grey values should be of order 1 (recordings are normalised by their reference).
    alpha : float or (float, float)
        Smoothness weight, or one along x and one along y. Larger is smoother.
    update_lag : int
        Sweeps between two updates of the robust weights.
    iterations : int
        Sweeps per level.
    min_level : int, optional
        Finest level solved, 0 is full size; overrides ``quality``.
    levels : int
        At most this many scalings.
    warping_steps : int
        How often each level warps the image anew and solves for what is left.
    eta : float
        Scale between neighbouring levels, in (0, 1]; at 1 all of ``levels`` are full size.
    a_smooth, a_data : float
        Exponents of the smoothness and data penalties; 1 is quadratic. ``a_data`` may hold one per channel.
    gnc_schedule : sequence of float, optional
        Graduated non-convexity: how robust the penalties are, 0 (quadratic) to 1 (``a_smooth``, ``a_data``), spread
        evenly from the coarsest level to the finest, exponents interpolated between. Never falling, from 0 to 1, such
        as ``(0, 1)`` or ``(0, 1, 1)``. None: as robust on all levels.
    const_assumption : {"gc", "gray", "census"}
        Constancy of the gradient, of the grey value, or of which neighbours are brighter (census transform, smoothed):
        the last does not mind when brightness or contrast change, differently in different places.
    quality : {"quality", "balanced", "fast"}
        Finest level 0, 4 or 6.
    grid_spacing : int or "auto"
        Pixels per unknown along each side on every level: images and data term stay at the level's resolution, the
        field is solved for on a coarser grid. 1 is the toolbox's method; ``"auto"`` decides by alpha, see
        `pyflow.flow.parameters.auto_grid_spacing`.
    uv : array_like, shape (H, W, 2), optional
        Field to start from, in pixels.
    warp_start : bool
        False: like the MATLAB toolbox, do not warp the coarsest level by ``uv``.
    weight : array_like, shape (C,) or (H, W) or (H, W, C), optional
        Weight omega of each channel's data term, or a map of it. Equal weights that sum to 1 by default.
    n_threads : int
        0: all this process may use. The result does not depend on it.
    backend : str
        Implementation, see `pyflow.flow.backends`.
    backend_params : mapping, optional
        Parameters of its own.

    Returns
    -------
    ndarray, shape (H, W, 2), float32
        Backward displacement in pixels: ``registered(y, x) = moving(y + w[y, x, 1], x + w[y, x, 0])``.

    Raises
    ------
    ValueError
        Shapes differ, a value is not finite, or a parameter is outside its range (`pyflow.flow.parameters.LIMITS`).
    """
    parameters = FlowParameters(
        alpha=alpha,
        update_lag=update_lag,
        iterations=iterations,
        min_level=level_of(quality, min_level),
        levels=levels,
        warping_steps=warping_steps,
        eta=eta,
        a_smooth=a_smooth,
        a_data=a_data,
        gnc_schedule=gnc_schedule,
        const_assumption=const_assumption,
        grid_spacing=grid_spacing,
        warp_start=warp_start,
    )
    if np.shape(moving) != np.shape(reference):
        raise ValueError(f"moving has shape {np.shape(moving)}, the reference has {np.shape(reference)}")
    prepared = prepare(reference, parameters, weight=weight, backend=backend, backend_params=backend_params)
    frame = _finite_planes(moving, "moving")
    start = None if uv is None else prepared.start(_finite_field(uv, frame.shape[1:]))
    field = prepared.estimate(frame[np.newaxis], start, n_threads=n_threads)[0]
    return enlarge_field(field, frame.shape[1:], n_threads=kernel_threads(n_threads))


def prepare(
    reference: ArrayLike,
    parameters: FlowParameters,
    *,
    weight: ArrayLike | None = None,
    backend: str = "flowreg",
    backend_params: Mapping[str, Any] | None = None,
) -> Prepared:
    """Check a reference and hand it to a back end.

    Parameters
    ----------
    reference : array_like, shape (H, W) or (H, W, C)
    parameters : FlowParameters
    weight, backend, backend_params
        See `get_displacement`.

    Returns
    -------
    Prepared
        Estimates the displacement of frames; safe to use from several threads.

    Raises
    ------
    ValueError
        The back end is unknown or cannot do what is asked for, a value is not finite, or sizes do not fit.
    """
    chosen = get_backend(backend, **(backend_params or {}))
    reason = chosen.unsupported(parameters)
    if reason:
        raise ValueError(f"back end {backend!r}: {reason}")
    planes = _finite_planes(reference, "reference")
    if min(planes.shape[1:]) < 2:
        raise ValueError(f"image of {planes.shape[1:]}: both sides must have at least 2 pixels")
    if len(parameters.a_data) not in (1, len(planes)):
        raise ValueError(f"a_data has {len(parameters.a_data)} values for {len(planes)} channels")
    return chosen.prepare(planes, parameters, weight=None if weight is None else _weights(weight, planes.shape))


def _finite_planes(image, name):
    planes = to_planes(image, name)
    # a float32 sum is finite only if every value is, unless it overflows; then look at each
    if not np.isfinite(planes.sum()) and not np.isfinite(planes).all():
        raise ValueError(f"{name} holds values that are not finite")
    return planes


def _finite_field(uv, shape):
    field = np.stack(flow_components(uv, shape, "uv"), axis=-1)
    if not np.isfinite(field).all():
        raise ValueError("uv holds values that are not finite")
    return field


def _weights(weight, shape):
    """Weight per channel (C,), or a map (C, H, W)."""
    n_channels, *image = shape
    weight = np.asarray(weight, np.float32)
    if not np.isfinite(weight).all() or weight.min() < 0 or weight.max() == 0:
        raise ValueError("weight must be finite, not negative and not all zero")
    if weight.ndim <= 1:
        if weight.size not in (1, n_channels):
            raise ValueError(f"weight has {weight.size} values for {n_channels} channels")
        return np.ascontiguousarray(np.broadcast_to(weight, n_channels))
    if list(weight.shape[:2]) != image or weight.shape[2:] not in ((), (1,), (n_channels,)):
        raise ValueError(f"weight map has shape {weight.shape}, expected {(*image, n_channels)}")
    return np.ascontiguousarray(np.broadcast_to(to_planes(weight, "weight"), shape))
