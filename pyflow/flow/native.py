"""The native back end: coarse to fine, levels solved in C."""

import math
from collections import defaultdict, deque
from dataclasses import dataclass

import numpy as np

from pyflow._ext import _median, _solver, _tensor
from pyflow.flow.filters import resize_planes, widen_planes
from pyflow.flow.parameters import FlowParameters
from pyflow.flow.warp import warp_planes
from pyflow.threads import kernel_threads

_ZETA = 1e-6  # constant of the normalised data term, as in the MATLAB toolbox
_SMALLEST_SIDE = 10  # levels with a shorter side are not used
_PARALLEL_PIXELS = 1 << 16  # on smaller levels waking threads costs more than they save
_LEAST_CELLS = 16  # a side of a level's grid has no fewer, or one for each pixel: coarse levels cost little
_LEAST_ACROSS = 32  # cells along the short side of the image, or coarse levels go astray
_MEDIAN_SIDE = 5  # levels whose shorter side is at most this are not median filtered


class NativeBackend:
    """Flow-Registration's method in C, on the processor; supports all parameters and takes none of its own."""

    name = "flowreg"
    device = "cpu"

    def unsupported(self, parameters: FlowParameters) -> str | None:
        """Nothing is."""
        return None

    def prepare(
        self, reference: np.ndarray, parameters: FlowParameters, *, weight: np.ndarray | None = None
    ) -> "NativePrepared":
        """See `pyflow.flow.backends.Backend`."""
        return NativePrepared(reference, parameters, weight)


class NativePrepared:
    """A reference's pyramid, see `pyflow.flow.backends.Prepared`. Each call holds its own scratch."""

    def __init__(self, reference: np.ndarray, parameters: FlowParameters, weight: np.ndarray | None) -> None:
        self._shape = reference.shape
        self._warp_start = parameters.warp_start
        self._warping_steps = parameters.warping_steps
        n_channels = len(reference)
        if weight is None:
            weight = np.full(n_channels, 1 / n_channels, np.float32)
        weight_map = weight if weight.ndim == 3 else None
        if weight_map is not None:
            weight = np.ones(n_channels, np.float32)
        a_data = np.broadcast_to(parameters.a_data, n_channels)

        geometries = pyramid(
            self._shape[1:], parameters.eta, parameters.levels, parameters.min_level, parameters.grid_spacing
        )
        self._shapes = [geometry.shape for _, geometry in geometries]
        schedule = (1.0,) if parameters.gnc_schedule is None else parameters.gnc_schedule
        robustness = _along(schedule, len(geometries))
        images = _image_pyramid(reference.copy(), self._shapes)
        self._levels = []
        for (number, geometry), image, robust in zip(geometries, images, robustness, strict=True):
            factor = 1.0 if geometry is geometries[-1][1] else parameters.eta ** (-0.5 * number)
            params = _solver.LevelParams(
                geometry.grid,
                geometry.grid_spacing,
                (parameters.alpha[0] * factor, parameters.alpha[1] * factor),
                parameters.a_smooth + (1 - robust) * (1 - parameters.a_smooth),
                np.asarray(a_data + (1 - robust) * (1 - a_data), np.float32),
                weight,
                _level_weights(weight_map, geometry.grid),
                parameters.iterations,
                parameters.update_lag,
            )
            self._levels.append(Level(geometry, image, _tensor.CONSTANCIES[parameters.const_assumption], params))
        finest = self._levels[-1].geometry
        self._field_shape = self._shape[1:] if finest.grid == finest.shape else finest.grid
        self._free = defaultdict(deque)  # workspaces by number of threads

    def start(self, field: np.ndarray) -> np.ndarray:
        """See `pyflow.flow.backends.Prepared`: the field (2, rows, cols) on the coarsest level's grid."""
        planes = np.ascontiguousarray(field.transpose(2, 0, 1), np.float32)
        return resize_planes(planes, self._levels[0].geometry.grid)

    def estimate(self, frames: np.ndarray, start: np.ndarray | None = None, n_threads: int = 1) -> np.ndarray:
        """See `pyflow.flow.backends.Prepared`.

        Fields are on the finest level's grid, or where that has an unknown for each pixel, of the images' size.

        Raises
        ------
        ValueError
            The frames' shape does not fit the reference's.
        """
        if frames.shape[1:] != self._shape:
            raise ValueError(f"frames have shape {frames.shape}, expected (N, C, H, W) with {self._shape}")
        n_threads = kernel_threads(n_threads)
        out = np.empty((len(frames), 2, *self._field_shape), np.float32)
        workspace = self._borrow(n_threads)
        for frame, displacement in zip(frames, out, strict=True):
            self._estimate(frame, start, displacement, workspace, n_threads)
        self._free[n_threads].append(workspace)
        return out.transpose(0, 2, 3, 1)

    def _estimate(self, frame, start, out, workspace, n_threads):
        flow = workspace.flows[0]
        flow[:] = 0 if start is None else start
        images = _image_pyramid(frame, self._shapes, n_threads, workspace.images)
        for k, (level, image) in enumerate(zip(self._levels, images, strict=True)):
            geometry = level.geometry
            threads = n_threads if math.prod(geometry.shape) >= _PARALLEL_PIXELS else 1
            increment = workspace.increments[k]
            if k > 0:
                flow = resize_planes(flow, geometry.grid, out=workspace.flows[k], n_threads=threads)
            for step in range(self._warping_steps):
                warped = image
                if k + step > 0 or (start is not None and self._warp_start):
                    warped = workspace.warped[k]
                    wide = widen_planes(flow, geometry.shape[1], out=workspace.wide[k], n_threads=threads)
                    warp_planes(image, wide, level.reference, warped, spacing=geometry.spacing, n_threads=threads)
                level.solve(warped, flow, increment, workspace.scratch, threads)
                if min(geometry.grid) > _MEDIAN_SIDE:
                    _median.add_median5x5(increment, flow, threads)
                else:
                    flow += increment
        if flow.shape == out.shape:
            out[:] = flow
        else:
            resize_planes(flow, out.shape[1:], out=out, n_threads=n_threads)

    def _borrow(self, n_threads):
        try:
            return self._free[n_threads].pop()
        except IndexError:
            return _Workspace(self._levels, n_threads)


@dataclass(frozen=True)
class LevelGeometry:
    """One level of the pyramid.

    Attributes
    ----------
    shape : tuple of int
        (rows, cols).
    spacing : tuple of float
        Rows and columns of the full-size image per row and column of this level, in pixels.
    grid : tuple of int
        (rows, cols) of the grid of unknowns, at most those of the level.
    grid_spacing : tuple of float
        Rows and columns of the full-size image per row and column of the grid, in pixels.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    grid: tuple[int, int]
    grid_spacing: tuple[float, float]


class Level:
    """Motion tensor and red-black SOR on one level."""

    def __init__(
        self, geometry: LevelGeometry, reference: np.ndarray, constancy: int, params: _solver.LevelParams
    ) -> None:
        self.geometry, self.reference = geometry, reference
        self._constancy, self._params = constancy, params
        self._tensor_shape = (len(reference), *_tensor.layout_shape(*geometry.grid))
        self._tensor_size = math.prod(self._tensor_shape)

    def scratch_size(self, n_threads: int) -> int:
        """float32 values of scratch that a call on that many threads needs."""
        return self._tensor_size + self._params.scratch_size(n_threads)

    def solve(
        self, warped: np.ndarray, flow: np.ndarray, increment: np.ndarray, scratch: np.ndarray, n_threads: int
    ) -> None:
        """Write the increment of the displacement `flow` into `increment`, both (2, *grid) in full-size pixels.

        `warped` (C, rows, cols) is the moving image warped by `flow`; `scratch` is shared by all levels.
        """
        tensor = scratch[: self._tensor_size].reshape(self._tensor_shape)
        for f1, f2, out in zip(self.reference, warped, tensor, strict=True):
            _tensor.motion_tensor(
                f1, f2, *self.geometry.grid, *self.geometry.spacing, self._constancy, _ZETA, out, n_threads
            )
        _solver.solve(self._params, tensor, *flow, *increment, scratch[self._tensor_size :], n_threads)


class _Workspace:
    """Memory of one call at a time, kept so that a frame allocates only its result."""

    def __init__(self, levels, n_threads):
        shapes = [level.geometry.shape for level in levels]
        grids = [level.geometry.grid for level in levels]
        n_channels = len(levels[0].reference)
        largest = max(math.prod(shape) for shape in shapes)
        widest = max(grid[0] * shape[1] for grid, shape in zip(grids, shapes, strict=True))
        finest = max(math.prod(grid) for grid in grids)
        warped, wide, increment = (
            np.empty(size, np.float32) for size in (n_channels * largest, 2 * widest, 2 * finest)
        )
        self.images = [np.empty((n_channels, *shape), np.float32) for shape in shapes]
        self.flows = [np.empty((2, *grid), np.float32) for grid in grids]
        self.wide = [_first(wide, (2, grid[0], shape[1])) for grid, shape in zip(grids, shapes, strict=True)]
        self.warped = [_first(warped, (n_channels, *shape)) for shape in shapes]
        self.increments = [_first(increment, (2, *grid)) for grid in grids]
        self.scratch = aligned_zeros(max(level.scratch_size(n_threads) for level in levels))


def aligned_zeros(size: int) -> np.ndarray:
    """That many float32 zeros from the start of a cache line, so that no vector crosses two."""
    line = 64
    raw = np.zeros(4 * size + line, np.uint8)
    start = -raw.ctypes.data % line
    return raw[start : start + 4 * size].view(np.float32)


def _first(memory, shape):
    return memory[: math.prod(shape)].reshape(shape)


def pyramid(
    shape: tuple[int, int], eta: float, levels: int, min_level: int, grid_spacing: int = 1
) -> list[tuple[int, LevelGeometry]]:
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
    grid_spacing : int
        Pixels of a level per unknown along each side, fewer where the level is small or the image narrow.

    Returns
    -------
    list of (int, LevelGeometry)
        Level number (0 is full size) and geometry.
    """
    depths = [_depth(side, eta, levels) for side in shape]
    depths = [min(depth, 4 * min(depths)) for depth in depths]
    coarsest = max(depths)
    pixels = max(min(grid_spacing, min(shape) / _LEAST_ACROSS), 1.0)
    found = []
    for number in range(coarsest, min(min_level, coarsest) - 1, -1):
        size = tuple(
            max(1, math.floor(side * eta ** min(number, depth) + 0.5))
            for side, depth in zip(shape, depths, strict=True)
        )
        grid = tuple(max(min(_LEAST_CELLS, side), round(side / pixels)) for side in size)
        found.append((number, LevelGeometry(size, _spacing(shape, size), grid, _spacing(shape, grid))))
    return found


def _spacing(shape, size):
    return shape[0] / size[0], shape[1] / size[1]


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


def _along(schedule, n_levels):
    """The schedule at each level, coarsest to finest; a single level is the finest."""
    position = 1 - np.arange(n_levels)[::-1] / max(n_levels - 1, 1)
    return np.interp(position, np.linspace(0, 1, len(schedule)), schedule)
