"""Displacement between two images by variational optical flow, coarse to fine.

The method is Flow-Registration's (Flotho et al., J. Biophotonics 2022, doi 10.1002/jbio.202100330), after Brox et al.
2004 and Zimmer et al. 2009: for a reference f1 and a moving image f2 find the field that minimises

    sum_c omega_c Psi_data(normalised gradient constancy residual) + alpha Psi_smooth(|grad u|^2 + |grad v|^2)

with Psi(s) = (s + 1e-5)^a.
"""

import math
from collections import defaultdict, deque
from itertools import pairwise

import numpy as np

from pyflow._ext import _median
from pyflow._ext._tensor import CONSTANCIES
from pyflow.flow.backends import LevelGeometry, LevelParameters, aligned_zeros, get_backend
from pyflow.flow.filters import resize_planes
from pyflow.flow.planes import flow_components, to_planes
from pyflow.flow.warp import warp_planes
from pyflow.threads import kernel_threads

MIN_LEVEL = {"quality": 0, "balanced": 4, "fast": 6}
"""Finest level solved, by quality preset."""

_SMALLEST_SIDE = 10  # levels with a shorter side are not used
_PARALLEL_PIXELS = 1 << 16  # on smaller levels waking threads costs more than they save
_MEDIAN_SIDE = 5  # levels whose shorter side is at most this are not median filtered


def get_displacement(
    reference,
    moving,
    *,
    alpha=1.5,
    update_lag=5,
    iterations=50,
    min_level=None,
    levels=100,
    eta=0.8,
    a_smooth=1.0,
    a_data=0.45,
    gnc_schedule=None,
    const_assumption="gc",
    quality="quality",
    uv=None,
    weight=None,
    n_threads=0,
    backend="flowreg",
):
    """Displacement that registers ``moving`` onto ``reference``.

    To register many images onto one reference, use a `FlowEstimator`, which prepares the reference once.

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
    eta : float
        Scale between neighbouring levels, in (0, 1).
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
    uv : array_like, shape (H, W, 2), optional
        Field to start from, in pixels.
    weight : array_like, shape (C,) or (H, W) or (H, W, C), optional
        Weight omega of each channel's data term, or a map of it. Equal weights that sum to 1 by default.
    n_threads : int
        0: all this process may use. The result does not depend on it.
    backend : str
        Level solver, see `pyflow.flow.backends`.

    Returns
    -------
    ndarray, shape (H, W, 2), float32
        Backward displacement in pixels: ``registered(y, x) = moving(y + w[y, x, 1], x + w[y, x, 0])``.

    Raises
    ------
    ValueError
        Shapes differ, a value is not finite, or a parameter is outside its range.
    """
    estimator = FlowEstimator(
        reference,
        alpha=alpha,
        update_lag=update_lag,
        iterations=iterations,
        min_level=min_level,
        levels=levels,
        eta=eta,
        a_smooth=a_smooth,
        a_data=a_data,
        gnc_schedule=gnc_schedule,
        const_assumption=const_assumption,
        quality=quality,
        weight=weight,
        backend=backend,
    )
    return estimator(moving, None if uv is None else estimator.start(uv), n_threads=n_threads)


class FlowEstimator:
    """Registers images onto one reference, whose pyramid it keeps.

    Parameters are those of `get_displacement`. Calls from several threads are safe; each holds its own scratch.
    """

    def __init__(
        self,
        reference,
        *,
        alpha=1.5,
        update_lag=5,
        iterations=50,
        min_level=None,
        levels=100,
        eta=0.8,
        a_smooth=1.0,
        a_data=0.45,
        gnc_schedule=None,
        const_assumption="gc",
        quality="quality",
        weight=None,
        backend="flowreg",
    ):
        planes = _finite_planes(reference, "reference").copy()
        self._image_shape = np.shape(reference)
        self.shape = planes.shape[1:]
        min_level = _min_level(quality, min_level)
        alpha = _positive_pair("alpha", alpha)
        a_data = np.array(_per_channel("a_data", a_data, len(planes)))
        if not 0 < eta < 1:
            raise ValueError(f"eta is {eta}, expected a value between 0 and 1")
        if iterations < 1 or update_lag < 1:
            raise ValueError(f"iterations {iterations} and update_lag {update_lag}: both must be 1 or more")
        if a_smooth <= 0 or min(a_data) <= 0:
            raise ValueError(f"a_smooth {a_smooth} and a_data {a_data}: both must be positive")
        if const_assumption not in CONSTANCIES:
            raise ValueError(f"const_assumption is {const_assumption!r}, expected one of {', '.join(CONSTANCIES)}")
        if min(self.shape) < 2:
            raise ValueError(f"image of {self.shape}: both sides must have at least 2 pixels")
        weight, weight_map = _weights(weight, len(planes), self.shape)
        schedule = (1.0,) if gnc_schedule is None else check_gnc_schedule(gnc_schedule)

        make_level = get_backend(backend)
        self._levels = []
        geometries = pyramid(self.shape, eta, levels, min_level)
        self._shapes = [geometry.shape for _, geometry in geometries]
        robustness = _along(schedule, len(geometries))
        images = _image_pyramid(planes, self._shapes)
        for (number, geometry), f1, robust in zip(geometries, images, robustness, strict=True):
            factor = 1.0 if geometry is geometries[-1][1] else eta ** (-0.5 * number)
            parameters = LevelParameters(
                alpha=(alpha[0] * factor, alpha[1] * factor),
                a_smooth=float(a_smooth + (1 - robust) * (1 - a_smooth)),
                a_data=np.asarray(a_data + (1 - robust) * (1 - a_data), np.float32),
                weight=weight,
                weight_map=_level_weights(weight_map, geometry.shape),
                constancy=const_assumption,
                iterations=int(iterations),
                update_lag=int(update_lag),
            )
            self._levels.append((geometry, f1, make_level(geometry, f1, parameters)))
        self._free = defaultdict(deque)  # workspaces by number of threads

    def start(self, uv):
        """Prepare a field to start from, once for all images that do.

        Parameters
        ----------
        uv : array_like, shape (H, W, 2)
            Displacement in pixels.

        Returns
        -------
        ndarray, shape (2, rows, cols), float32
            The field on the coarsest level.

        Raises
        ------
        ValueError
            The shape is not that of the reference, or a value is not finite.
        """
        planes = np.stack(flow_components(uv, self.shape, "uv"))
        if not np.isfinite(planes).all():
            raise ValueError("uv holds values that are not finite")
        return resize_planes(planes, self._shapes[0])

    def __call__(self, moving, start=None, n_threads=1):
        """Displacement that registers ``moving``.

        Parameters
        ----------
        moving : array_like, shape of the reference
        start : ndarray, optional
            What `start` made of the field to start from; zero where not given.
        n_threads : int
            0: all this process may use. The result does not depend on it.

        Returns
        -------
        ndarray, shape (H, W, 2), float32
            Backward displacement in pixels.

        Raises
        ------
        ValueError
            The shape is not the reference's, or a value is not finite.
        """
        if np.shape(moving) != self._image_shape:
            raise ValueError(f"moving has shape {np.shape(moving)}, the reference has {self._image_shape}")
        n_threads = kernel_threads(n_threads)
        planes = _finite_planes(moving, "moving")
        workspace = self._borrow(n_threads)
        flow = workspace.flows[0]
        flow[:] = 0 if start is None else start
        images = _image_pyramid(planes, self._shapes, n_threads, workspace.images)
        for k, ((geometry, f1, level), f2) in enumerate(zip(self._levels, images, strict=True)):
            threads = n_threads if math.prod(geometry.shape) >= _PARALLEL_PIXELS else 1
            step = workspace.steps[k]
            if k > 0:
                flow = resize_planes(flow, geometry.shape, out=workspace.flows[k], n_threads=threads)
                warp_planes(f2, *flow, f1, workspace.warped[k], spacing=geometry.spacing, n_threads=threads)
                f2 = workspace.warped[k]
            level(f2, flow, step, workspace.scratch, threads)
            if min(geometry.shape) > _MEDIAN_SIDE:
                for component, increment in zip(flow, step, strict=True):
                    _median.add_median5x5(increment, component, threads)
            else:
                flow += step
        out = np.empty((2, *self.shape), np.float32)
        if resize_planes(flow, self.shape, out=out, n_threads=n_threads) is flow:
            out[:] = flow
        self._free[n_threads].append(workspace)
        return np.moveaxis(out, 0, -1)

    def _borrow(self, n_threads):
        try:
            return self._free[n_threads].pop()
        except IndexError:
            return _Workspace(self._levels, n_threads)


class _Workspace:
    """Memory of one call at a time, kept so that a frame allocates only its result."""

    def __init__(self, levels, n_threads):
        shapes = [geometry.shape for geometry, _, _ in levels]
        n_channels = len(levels[0][1])
        largest = max(math.prod(shape) for shape in shapes)
        warped, step = (np.empty(n * largest, np.float32) for n in (n_channels, 2))
        self.images = [np.empty((n_channels, *shape), np.float32) for shape in shapes]
        self.flows = [np.empty((2, *shape), np.float32) for shape in shapes]
        self.warped = [_first(warped, (n_channels, *shape)) for shape in shapes]
        self.steps = [_first(step, (2, *shape)) for shape in shapes]
        self.scratch = aligned_zeros(max(level.scratch_size(n_threads) for _, _, level in levels))


def _first(memory, shape):
    return memory[: math.prod(shape)].reshape(shape)


def pyramid(shape, eta, levels, min_level):
    """Levels from coarse to fine.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of the full-size image.
    eta : float
        Scale between neighbouring levels.
    levels : int
        At most this many scalings.
    min_level : int
        Finest level; lowered to the coarsest where the image is too small to have it.

    Returns
    -------
    list of (int, LevelGeometry)
        Level number (0 is full size) and geometry.
    """
    depths = [_depth(side, eta, levels) for side in shape]
    depths = [min(depth, 4 * min(depths)) for depth in depths]
    coarsest = max(depths)
    found = []
    for number in range(coarsest, min(min_level, coarsest) - 1, -1):
        size = tuple(
            max(1, math.floor(side * eta ** min(number, depth) + 0.5))
            for side, depth in zip(shape, depths, strict=True)
        )
        found.append((number, LevelGeometry(size, (shape[0] / size[0], shape[1] / size[1]))))
    return found


def check_gnc_schedule(schedule):
    """Check how robust the penalties are from level to level, see `get_displacement`.

    Parameters
    ----------
    schedule : sequence of float

    Returns
    -------
    tuple of float

    Raises
    ------
    ValueError
        Fewer than two numbers, the first not 0, the last not 1, or one below the one before.
    """
    values = tuple(float(value) for value in schedule)
    if len(values) < 2 or values[0] != 0 or values[-1] != 1 or not all(a <= b for a, b in pairwise(values)):
        raise ValueError(f"gnc_schedule is {schedule}, expected numbers that never fall, the first 0, the last 1")
    return values


def _image_pyramid(planes, shapes, n_threads=1, out=None):
    """The image at each of the shapes (coarse to fine), each made from the next finer one at most twice its size."""
    found = []
    source = planes
    for shape, memory in zip(reversed(shapes), reversed(out or [None] * len(shapes)), strict=True):
        found.append(resize_planes(source, shape, out=memory, n_threads=n_threads))
        if 2 * min(shape) <= min(source.shape[1:]):
            source = found[-1]
    return found[::-1]


def _level_weights(weight_map, shape):
    """The weight map on a level; a cubic may overshoot, but a negative weight has no minimum."""
    return None if weight_map is None else np.maximum(resize_planes(weight_map, shape), 0)


def _depth(side, eta, levels):
    depth = 0
    while depth < levels and math.floor(side * eta ** (depth + 1) + 0.5) >= _SMALLEST_SIDE:
        depth += 1
    return depth


def _finite_planes(image, name):
    planes = to_planes(image, name)
    # a float32 sum is finite only if every value is, unless it overflows; then look at each
    if not np.isfinite(planes.sum()) and not np.isfinite(planes).all():
        raise ValueError(f"{name} holds values that are not finite")
    return planes


def _min_level(quality, min_level):
    if min_level is None:
        if quality not in MIN_LEVEL:
            raise ValueError(f"quality is {quality!r}, expected one of {', '.join(MIN_LEVEL)}")
        return MIN_LEVEL[quality]
    if min_level < 0:
        raise ValueError(f"min_level is {min_level}, expected 0 or more")
    return int(min_level)


def _positive_pair(name, value):
    pair = tuple(float(v) for v in np.atleast_1d(value))
    if len(pair) == 1:
        pair *= 2
    if len(pair) != 2 or not all(0 < v < math.inf for v in pair):
        raise ValueError(f"{name} is {value}, expected one positive number or a pair (x, y)")
    return pair


def _per_channel(name, value, n_channels):
    values = tuple(float(v) for v in np.atleast_1d(value))
    if len(values) not in (1, n_channels):
        raise ValueError(f"{name} has {len(values)} values for {n_channels} channels")
    return values * (n_channels // len(values))


def _along(schedule, n_levels):
    """The schedule at each level, coarsest to finest; a single level is the finest."""
    position = 1 - np.arange(n_levels)[::-1] / max(n_levels - 1, 1)
    return np.interp(position, np.linspace(0, 1, len(schedule)), schedule)


def _weights(weight, n_channels, shape):
    """Weight per channel, and a map (C, H, W) or None."""
    if weight is None:
        return np.full(n_channels, 1 / n_channels, np.float32), None
    weight = np.asarray(weight, np.float32)
    if not np.isfinite(weight).all() or weight.min() < 0 or weight.max() == 0:
        raise ValueError("weight must be finite, not negative and not all zero")
    if weight.ndim <= 1:
        if weight.size not in (1, n_channels):
            raise ValueError(f"weight has {weight.size} values for {n_channels} channels")
        return np.ascontiguousarray(np.broadcast_to(weight, n_channels)), None
    if weight.shape[:2] != shape or weight.shape[2:] not in ((), (1,), (n_channels,)):
        raise ValueError(f"weight map has shape {weight.shape}, expected {(*shape, n_channels)}")
    planes = np.broadcast_to(to_planes(weight, "weight"), (n_channels, *shape))
    return np.ones(n_channels, np.float32), np.ascontiguousarray(planes)
