"""Warping images and masks by a displacement field, and where the result is valid.

Displacements are backward, in pixels: ``registered(y, x) = moving(y + v, x + u)`` with ``u = w[..., 0]`` along
columns and ``v = w[..., 1]`` along rows. A pixel is valid where its source lies inside the image, border included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pyflow._ext import _warp
from pyflow.flow.filters import rows_between, widen_planes
from pyflow.flow.planes import flow_components, from_planes, to_planes
from pyflow.threads import kernel_threads


def imregister(
    moving: ArrayLike,
    w: ArrayLike,
    *,
    fill: ArrayLike | None = None,
    interpolation: str = "cubic",
    n_threads: int = 0,
) -> np.ndarray:
    """Warp an image backward.

    Parameters
    ----------
    moving : array_like, shape (H, W) or (H, W, C)
        Image to warp.
    w : array_like, shape (H, W, 2), float
        Backward displacement in pixels.
    fill : array_like, shape of moving, optional
        Values where the source lies outside ``moving``, usually the reference; 0 where not given.
    interpolation : {"cubic", "linear", "nearest"}
        Cubic is Keys' convolution (a = -1/2).
    n_threads : int
        0: all this process may use.

    Returns
    -------
    ndarray
        Shape and dtype of ``moving``; integers are rounded and clipped to their range.

    Raises
    ------
    ValueError
        Shapes do not fit, or the interpolation is unknown.
    """
    moving = np.asarray(moving)
    field = np.stack(flow_components(w, moving.shape[:2]))
    return _warped(moving, field, fill, interpolation, kernel_threads(n_threads))


@dataclass(frozen=True)
class RegisteredImage:
    """An image warped by a displacement, and what is seen on the way.

    Attributes
    ----------
    image : ndarray
        Shape and dtype of the image.
    valid : ndarray, shape (H, W), bool
        See `valid_mask`.
    mean_length, largest_length : float
        Of the displacements, in pixels.
    mean : tuple of float
        Mean displacement (u, v) in pixels.
    mean_divergence : float
        Mean of the displacement's divergence, in pixels per pixel.
    """

    image: np.ndarray
    valid: np.ndarray
    mean_length: float
    largest_length: float
    mean: tuple[float, float]
    mean_divergence: float


def register_image(
    moving: np.ndarray,
    field: np.ndarray,
    *,
    fill: np.ndarray | None = None,
    interpolation: str = "cubic",
    n_threads: int = 1,
) -> RegisteredImage:
    """`imregister`, `valid_mask` and the displacement's statistics in one go.

    Parameters
    ----------
    moving : ndarray, shape (H, W) or (H, W, C)
    field : ndarray, shape (rows, cols, 2), float32
        Backward displacement in pixels, of the image's size or on a coarser grid, which is enlarged
        (`pyflow.flow.filters.enlarge_field`) row by row.
    fill, interpolation, n_threads
        See `imregister`.

    Raises
    ------
    ValueError
        Shapes do not fit, or the interpolation is unknown.
    """
    shape = moving.shape[:2]
    valid = np.empty(shape, np.uint8)
    lengths = np.empty((shape[0], _warp.LENGTHS), np.float32)
    planes = np.ascontiguousarray(field.transpose(2, 0, 1), np.float32)
    image = _warped(moving, planes, fill, interpolation, n_threads, valid, lengths)
    height, width = shape
    length, _, u, v, stretch = lengths.sum(axis=0, dtype=np.float64) / (height * width)
    # what the forward differences of all pixels add up to
    down = float(lengths[-1, _warp.SUM_V]) - float(lengths[0, _warp.SUM_V])
    divergence = stretch * width / max(width - 1, 1) + down / (width * max(height - 1, 1))
    largest = float(lengths[:, _warp.LARGEST].max())
    return RegisteredImage(image, valid.view(bool), float(length), largest, (float(u), float(v)), float(divergence))


def _warped(moving, field, fill, interpolation, n_threads, valid=None, lengths=None):
    """The image (H, W) or (H, W, C) warped by planes (2, rows, cols), in its dtype."""
    planes = to_planes(moving, "moving")
    if fill is not None and np.shape(fill) != moving.shape:
        raise ValueError(f"fill has shape {np.shape(fill)}, expected {moving.shape} like moving")
    outside = None if fill is None else to_planes(fill, "fill")
    rounds = moving.dtype in _warp.INTEGERS and moving.dtype.isnative
    out = np.empty(planes.shape, moving.dtype if rounds else np.float32)
    wide = widen_planes(field, planes.shape[2], n_threads=n_threads)
    warp_planes(
        planes,
        wide,
        outside,
        out,
        interpolation=interpolation,
        n_threads=n_threads,
        valid=valid,
        lengths=lengths,
    )
    if rounds:
        return out[0] if moving.ndim == 2 else out.transpose(1, 2, 0)
    return from_planes(out, moving)


def imregister_binary(mask: ArrayLike, u: ArrayLike, v: ArrayLike, *, n_threads: int = 0) -> np.ndarray:
    """Warp a mask backward with nearest neighbours.

    Parameters
    ----------
    mask : array_like, shape (H, W)
        Anything non-zero is True.
    u, v : array_like, shape (H, W), float
        Backward displacement along columns and rows, in pixels.
    n_threads : int
        0: all this process may use.

    Returns
    -------
    ndarray, shape (H, W), bool
        False where the source lies outside.

    Raises
    ------
    ValueError
        Shapes do not fit.
    """
    mask = np.ascontiguousarray(np.asarray(mask) != 0)
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"mask has shape {mask.shape}, expected (H, W)")
    u, v = flow_components(np.stack([u, v], axis=-1), mask.shape, "(u, v)")
    out = np.empty(mask.shape, np.uint8)
    _warp.warp_mask(mask.view(np.uint8), u, v, out, kernel_threads(n_threads))
    return out.view(bool)


def valid_mask(w: ArrayLike, *, n_threads: int = 0) -> np.ndarray:
    """Pixels whose source lies inside the image.

    Parameters
    ----------
    w : array_like, shape (H, W, 2), float
        Backward displacement in pixels.
    n_threads : int
        0: all this process may use.

    Returns
    -------
    ndarray, shape (H, W), bool

    Raises
    ------
    ValueError
        ``w`` is not (H, W, 2).
    """
    shape = np.shape(w)
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"w has shape {shape}, expected (H, W, 2)")
    u, v = flow_components(w, shape[:2])
    out = np.empty(shape[:2], np.uint8)
    _warp.valid_mask(u, v, out, kernel_threads(n_threads))
    return out.view(bool)


def backward_valid_mask(u: ArrayLike, v: ArrayLike, *, n_threads: int = 0) -> np.ndarray:
    """Pixels whose source lies inside the image, for a displacement given by its components; see `valid_mask`.

    Parameters
    ----------
    u, v : array_like, shape (H, W), float
        Backward displacement along columns and rows, in pixels.
    n_threads : int
        0: all this process may use.

    Returns
    -------
    ndarray, shape (H, W), bool

    Raises
    ------
    ValueError
        Shapes do not fit.
    """
    if np.ndim(u) != 2 or np.shape(u) != np.shape(v):
        raise ValueError(f"u has shape {np.shape(u)} and v {np.shape(v)}, expected both (H, W)")
    return valid_mask(np.stack([u, v], axis=-1), n_threads=n_threads)


def compute_batch_valid_masks(w: ArrayLike, *, n_threads: int = 0) -> np.ndarray:
    """Pixels of each frame whose source lies inside it, as ``idx.hdf`` holds them.

    Parameters
    ----------
    w : array_like, shape (T, H, W, 2), float
        Backward displacement of each frame, in pixels.
    n_threads : int
        0: all this process may use.

    Returns
    -------
    ndarray, shape (T, H, W), uint8
        255 where a pixel is valid, else 0.

    Raises
    ------
    ValueError
        ``w`` is not (T, H, W, 2).
    """
    w = np.asarray(w)
    if w.ndim != 4 or w.shape[3] != 2 or 0 in w.shape:
        raise ValueError(f"w has shape {w.shape}, expected (T, H, W, 2)")
    out = np.empty(w.shape[:3], np.uint8)
    for mask, field in zip(out, w, strict=True):
        np.multiply(valid_mask(field, n_threads=n_threads), np.uint8(255), out=mask)
    return out


def warp_planes(
    planes: np.ndarray,
    field: np.ndarray,
    fill: np.ndarray | None,
    out: np.ndarray,
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    interpolation: str = "cubic",
    n_threads: int = 1,
    valid: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
) -> None:
    """Warp float32 planes (C, H, W) into ``out`` on a grid of the given (row, column) spacing in pixels.

    ``field`` is (2, rows, W), from `pyflow.flow.filters.widen_planes` where it is coarser. ``out`` is float32, or one
    of the integer types that the kernel rounds to. ``valid``, uint8 (H, W), and ``lengths``, float32 (H, LENGTHS), take
    what ``csrc/warp.h`` says.

    Raises
    ------
    ValueError
        The interpolation is unknown.
    """
    if interpolation not in _warp.INTERPOLATIONS:
        raise ValueError(f"interpolation is {interpolation!r}, expected one of {', '.join(_warp.INTERPOLATIONS)}")
    code = _warp.INTERPOLATIONS[interpolation]
    rows = rows_between(field.shape[1], planes.shape[1])
    for c, plane in enumerate(planes):
        outside = None if fill is None else fill[c]
        asked = (valid, lengths) if c == 0 else (None, None)
        _warp.warp_image(plane, *field, rows, outside, *spacing, code, out[c], *asked, n_threads)
