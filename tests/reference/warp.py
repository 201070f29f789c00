"""Backward warp, one pixel at a time."""

import math

import numpy as np
from reference.filters import keys


def warp(image, u, v, fill=None, interpolation="cubic", spacing=(1.0, 1.0)):
    out = np.zeros(image.shape) if fill is None else fill.astype(float).copy()
    for y, x in np.ndindex(image.shape):
        row, column = float(v[y, x]) / spacing[0], float(u[y, x]) / spacing[1]
        if inside(y + row, x + column, image.shape):
            out[y, x] = SAMPLE[interpolation](image.astype(float), y, x, row, column)
    return out


def inside(y, x, shape):
    return 0 <= y <= shape[0] - 1 and 0 <= x <= shape[1] - 1


def nearest(image, y, x, row, column):
    return image[math.floor(y + row + 0.5), math.floor(x + column + 0.5)]


def linear(image, y, x, row, column):
    padded = np.pad(image, ((0, 1), (0, 1)), mode="edge")
    iy, ix = math.floor(row), math.floor(column)
    fy, fx = row - iy, column - ix
    square = padded[y + iy : y + iy + 2, x + ix : x + ix + 2]
    return np.array([1 - fy, fy]) @ square @ np.array([1 - fx, fx])


def cubic(image, y, x, row, column):
    padded = with_ghosts(with_ghosts(image, 0), 1)
    iy, ix = math.floor(row), math.floor(column)
    weights_y = [keys(row - iy - d) for d in (-1, 0, 1, 2)]
    weights_x = [keys(column - ix - d) for d in (-1, 0, 1, 2)]
    square = padded[y + iy : y + iy + 4, x + ix : x + ix + 4]
    return weights_y @ np.pad(square, [(0, 4 - n) for n in square.shape]) @ weights_x


def with_ghosts(image, axis):
    """One sample more on each side: 3 f1 - 3 f2 + f3, or the border's own where there are not three."""
    lines = np.moveaxis(image, axis, 0)
    if len(lines) < 3:
        return np.pad(image, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
    before, after = (3 * f1 - 3 * f2 + f3 for f1, f2, f3 in (lines[:3], lines[:-4:-1]))
    return np.moveaxis(np.concatenate([before[np.newaxis], lines, after[np.newaxis]]), 0, axis)


def valid(u, v):
    return np.array([[inside(y + v[y, x], x + u[y, x], u.shape) for x in range(u.shape[1])] for y in range(len(u))])


SAMPLE = {"nearest": nearest, "linear": linear, "cubic": cubic}
