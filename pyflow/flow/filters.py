"""Resizing, Gaussian smoothing and the 5x5 median, on one image of any number of channels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from pyflow._ext import _median, _separable
from pyflow.flow.planes import to_planes
from pyflow.threads import kernel_threads


def resize(image: ArrayLike, shape: tuple[int, int], *, antialias: bool = True, n_threads: int = 0) -> np.ndarray:
    """Resize with Keys' bicubic kernel (a = -1/2), mirrored border.

    Shrinking stretches the kernel by the scale, as MATLAB's ``imresize`` does, so that nothing aliases.

    Parameters
    ----------
    image : array_like, shape (H, W) or (H, W, C)
    shape : tuple of int
        New (H, W).
    antialias : bool
        Stretch the kernel where an axis shrinks.
    n_threads : int
        0: all this process may use.

    Returns
    -------
    ndarray, shape (*shape) or (*shape, C), float32

    Raises
    ------
    ValueError
        The new shape has no pixels, or the image is not (H, W) or (H, W, C).
    """
    planes = to_planes(image)
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape is {shape}, expected two positive sizes")
    out = resize_planes(planes, tuple(shape), antialias=antialias, n_threads=kernel_threads(n_threads))
    return _as_given(out, image)


def gaussian_filter(image: ArrayLike, sigma: float | tuple[float, float], *, n_threads: int = 0) -> np.ndarray:
    """Gaussian smoothing, mirrored border, kernel cut at four sigma.

    Parameters
    ----------
    image : array_like, shape (H, W) or (H, W, C)
    sigma : float or (float, float)
        Standard deviation in pixels, or one for rows and one for columns. 0 leaves an axis as it is.
    n_threads : int
        0: all this process may use.

    Returns
    -------
    ndarray, shape as image, float32

    Raises
    ------
    ValueError
        sigma is negative or not finite, or the image is not (H, W) or (H, W, C).
    """
    planes = to_planes(image)
    sigma_y, sigma_x = (float(s) for s in np.broadcast_to(sigma, 2))
    if not (0 <= sigma_y < np.inf and 0 <= sigma_x < np.inf):
        raise ValueError(f"sigma is {sigma}, expected finite values of 0 or more")
    axes = *_gaussian_axis(planes.shape[1], sigma_y), *_gaussian_axis(planes.shape[2], sigma_x)
    return _as_given(_apply(planes, axes, kernel_threads(n_threads)), image)


def median_filter_5x5(image: ArrayLike, *, n_threads: int = 0) -> np.ndarray:
    """5x5 median, mirrored border (edge pixel repeated).

    Parameters
    ----------
    image : array_like, shape (H, W) or (H, W, C)
        Without NaN.
    n_threads : int
        0: all this process may use.

    Returns
    -------
    ndarray, shape as image, float32

    Raises
    ------
    ValueError
        The image is not (H, W) or (H, W, C).
    """
    planes = to_planes(image)
    out = np.empty_like(planes)
    for source, target in zip(planes, out, strict=True):
        _median.median5x5(source, target, kernel_threads(n_threads))
    return _as_given(out, image)


def resize_planes(
    planes: np.ndarray,
    shape: tuple[int, int],
    *,
    antialias: bool = True,
    out: np.ndarray | None = None,
    n_threads: int = 1,
) -> np.ndarray:
    """`resize` for float32 planes (C, H, W), into `out` where given; of that shape already, they are returned."""
    if planes.shape[1:] == shape:
        return planes
    return _apply(planes, _resize_axes(planes.shape[1:], shape, antialias), n_threads, out)


def block_means(image: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """Means over blocks of pixels.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, C)
    sides : tuple of int
        (rows, cols) of a block, at most the image's. Pixels that fill no block are left out.

    Returns
    -------
    ndarray, shape (H // rows, W // cols) or with C, float32
    """
    planes = to_planes(image)
    axes = *_block_axis(planes.shape[1], sides[0]), *_block_axis(planes.shape[2], sides[1])
    return _as_given(_apply(planes, axes, 1), image)


def enlarge_planes(
    planes: np.ndarray, shape: tuple[int, int], *, out: np.ndarray | None = None, n_threads: int = 1
) -> np.ndarray:
    """`resize_planes` to several times the size: faster, since columns come first, and rounded otherwise."""
    if planes.shape[1:] == shape:
        return planes
    return _apply(planes, _resize_axes(planes.shape[1:], shape, False), n_threads, out, columns_first=True)


def enlarge_field(field: np.ndarray, shape: tuple[int, int], *, n_threads: int = 1) -> np.ndarray:
    """`enlarge_planes` for a displacement field, float32 (rows, cols, 2), in pixels: (*shape, 2)."""
    planes = np.ascontiguousarray(field.transpose(2, 0, 1))
    return enlarge_planes(planes, shape, n_threads=n_threads).transpose(1, 2, 0)


def widen_planes(planes: np.ndarray, width: int, *, out: np.ndarray | None = None, n_threads: int = 1) -> np.ndarray:
    """The part of `enlarge_planes` that goes along rows: float32 planes (C, rows, width)."""
    if planes.shape[2] == width:
        return planes
    if out is None:
        out = np.empty((*planes.shape[:2], width), np.float32)
    _separable.widen(planes, *_resize_axis(planes.shape[2], width, False), out, n_threads)
    return out


def rows_between(rows: int, height: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The part of `enlarge_planes` that goes along columns.

    Index and weight, int32 and float32 (height, taps), of the rows that each row is made of; None where each is one.
    """
    return None if rows == height else _resize_axis(rows, height, False)


def _apply(planes, axes, n_threads, out=None, columns_first=False):
    if out is None:
        out = np.empty((len(planes), len(axes[0]), len(axes[2])), np.float32)
    _separable.map_separable(planes, *axes, out, n_threads, columns_first)
    return out


def _as_given(planes, image):
    return planes[0] if np.ndim(image) == 2 else planes.transpose(1, 2, 0)


def _keys(x):
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@lru_cache(maxsize=256)
def _resize_axes(shape, target, antialias):
    """Index and weight of the rows, and of the columns."""
    return *_resize_axis(shape[0], target[0], antialias), *_resize_axis(shape[1], target[1], antialias)


@lru_cache(maxsize=256)
def _resize_axis(n, m, antialias):
    """Source indices and weights (m, taps) that turn n samples into m."""
    scale = m / n
    stretch = min(scale, 1.0) if antialias else 1.0
    centre = (np.arange(m) + 0.5) / scale - 0.5
    taps = int(np.ceil(4 / stretch)) + 1
    index = np.floor(centre - 2 / stretch).astype(int)[:, np.newaxis] + 1 + np.arange(-1, taps)
    return _axis(index, _keys((centre[:, np.newaxis] - index) * stretch), n)


@lru_cache(maxsize=256)
def _gaussian_axis(n, sigma):
    """Source indices and weights (n, taps) of a Gaussian."""
    radius = int(4 * sigma + 0.5)
    offset = np.arange(-radius, radius + 1)
    weight = np.exp(-0.5 * (offset / sigma) ** 2) if sigma > 0 and radius else np.ones(1)
    index = np.arange(n)[:, np.newaxis] + (offset if len(weight) > 1 else np.zeros(1, int))
    return _axis(index, np.broadcast_to(weight, index.shape), n)


@lru_cache(maxsize=256)
def _block_axis(n, side):
    """Source indices and weights (n // side, taps) of means over blocks."""
    index = np.arange(n // side * side).reshape(-1, side)
    return _axis(index, np.ones(index.shape), n)


def _axis(index, weight, n):
    """Normalise the weights, keep the taps in use (in whole groups), mirror the indices into 0..n-1."""
    used = np.any(weight != 0, axis=0)
    index, weight = index[:, used], weight[:, used]
    surplus = ((0, 0), (0, -index.shape[1] % _separable.TAPS))
    index = np.pad(index, surplus, mode="edge")
    weight = np.pad(weight / weight.sum(axis=1, keepdims=True), surplus)
    index = np.mod(index, 2 * n)
    index = np.where(index < n, index, 2 * n - 1 - index)
    return np.ascontiguousarray(index, np.int32), np.ascontiguousarray(weight, np.float32)
