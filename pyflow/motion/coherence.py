"""Neighbouring frames inform each other: tissue deforms slowly, whatever shakes it as a whole is fast.

1. A displacement field is split, on a coarse grid, into its mean along every scan line (motion of the whole field of
   view while the frame was scanned) and the rest, the deformation. Only the deformation is averaged over time.
2. The mean of the frames k before and k after, m, is a second estimate of a frame's deformation r. With the noise
   variance s^2 of one estimate, the part of <(m - r)^2> that noise does not explain is the square of what m misses,
   and the two are averaged with the inverses of their expected squared errors as weights. Where the deformation
   jumps, m misses much and has no weight.
"""

from collections.abc import Sequence

import numpy as np

from pyflow.flow.filters import enlarge_field, resize_planes

RADIUS = 2
"""Neighbours in time that count on each side."""

_GRID = 64  # deformation is smooth: this many samples along each side show it


def deformation(field: np.ndarray) -> np.ndarray:
    """Split the deformation off a displacement field.

    Parameters
    ----------
    field
        Displacement, float32 (rows, cols, 2), pixels, of the frame's size or on a coarser grid.

    Returns
    -------
    ndarray
        float32 (2, rows, cols), pixels: u, v without their mean along each scan line.
    """
    planes = np.ascontiguousarray(field.transpose(2, 0, 1))
    coarse = resize_planes(planes, tuple(min(side, _GRID) for side in planes.shape[1:]))
    return coarse - coarse.mean(axis=2, keepdims=True)


def coherent(field: np.ndarray, around: Sequence[np.ndarray | None], noise_px: float) -> np.ndarray:
    """Improve a displacement field by its neighbours in time.

    Parameters
    ----------
    field
        Displacement, float32 (rows, cols, 2), pixels, of the frame's size or on a coarser grid.
    around
        The `deformation` of the frame in the middle and of 2 * `RADIUS` neighbours, None where there is no such
        frame.
    noise_px
        Standard deviation of the deformation's error in one frame, each component, in pixels.

    Returns
    -------
    ndarray
        float32 (rows, cols, 2), pixels.
    """
    middle = len(around) // 2
    own, variance = around[middle], noise_px**2
    total, weights = np.zeros_like(own), 1.0
    for k in range(1, middle + 1):
        pair = [other for other in (around[middle - k], around[middle + k]) if other is not None]
        if not pair or variance == 0:
            continue
        difference = sum(pair) / np.float32(len(pair)) - own
        noise = variance / len(pair)
        missed = max(0.0, float(np.mean(difference * difference)) - variance - noise)
        weight = variance / (noise + missed)
        total += np.float32(weight) * difference
        weights += weight
    if weights == 1.0:
        return field
    correction = (total / np.float32(weights)).transpose(1, 2, 0)
    return field + enlarge_field(correction, field.shape[:2])
