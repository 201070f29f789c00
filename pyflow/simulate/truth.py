"""Turn known samplings into displacements, and measure how far from them found ones are."""

import numpy as np
from scipy import ndimage

_INVERSION_STEPS = 30  # fixed-point steps; fields contract by their slope, well under 1/2 a step


def invert(sampling: np.ndarray) -> np.ndarray:
    """Return the backward displacement that undoes a sampling.

    Parameters
    ----------
    sampling : ndarray, shape (H, W, 2), float
        The image shows the scene at ``(y + s_y, x + s_x)``, in pixels, smooth.

    Returns
    -------
    ndarray, shape (H, W, 2), float32
        w with ``w(q) = -s(q + w(q))``: looked up there, the image shows the scene at q.
    """
    rows, columns = np.mgrid[: sampling.shape[0], : sampling.shape[1]]
    u, v = -sampling[..., 0], -sampling[..., 1]
    for _ in range(_INVERSION_STEPS):
        at = (rows + v, columns + u)
        new = [-ndimage.map_coordinates(sampling[..., axis], at, order=1, mode="nearest") for axis in (0, 1)]
        change = max(np.abs(new[0] - u).max(), np.abs(new[1] - v).max())
        u, v = new
        if change < 1e-4:
            break
    return np.stack([u, v], axis=-1).astype(np.float32)


def endpoint_error(w: np.ndarray, truth: np.ndarray, border: int = 0) -> float:
    """Mean distance between displacements, in pixels.

    Parameters
    ----------
    w, truth : ndarray, shape (..., H, W, 2)
        Found and true displacements, in pixels.
    border : int
        Pixels left out on every side.

    Returns
    -------
    float
    """
    return float(np.hypot(*np.moveaxis(_inside(w - truth, border), -1, 0)).mean())


def jitter(w: np.ndarray, truth: np.ndarray, border: int = 0) -> float:
    """Endpoint error without what is common to all frames, in pixels.

    Each pixel's median difference over time only says where the template sits; what is left is motion that was not
    removed, or that was put in.

    Parameters
    ----------
    w, truth : ndarray, shape (T, H, W, 2)
        Found and true displacements, in pixels.
    border : int
        Pixels left out on every side.

    Returns
    -------
    float
    """
    difference = _inside(w - truth, border)
    return float(np.hypot(*np.moveaxis(difference - np.median(difference, axis=0), -1, 0)).mean())


def _inside(field: np.ndarray, border: int) -> np.ndarray:
    height, width = field.shape[-3:-1]
    return field[..., border : height - border, border : width - border, :]
