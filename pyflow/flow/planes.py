"""Between what people pass, ``(H, W)`` or ``(H, W, C)`` of any dtype, and what kernels take: float32 planes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike


def to_planes(image: ArrayLike, name: str = "image") -> np.ndarray:
    """Channels first.

    Parameters
    ----------
    image : array_like, shape (H, W) or (H, W, C)
        Any real dtype.
    name : str
        What to call it in an error.

    Returns
    -------
    ndarray, shape (C, H, W), float32, C-contiguous

    Raises
    ------
    ValueError
        Not two- or three-dimensional, or without pixels.
    TypeError
        Not real numbers.
    """
    image = np.asarray(image)
    if image.ndim not in (2, 3):
        raise ValueError(f"{name} has shape {image.shape}, expected (H, W) or (H, W, C)")
    if 0 in image.shape:
        raise ValueError(f"{name} has shape {image.shape}: it has no pixels")
    if image.dtype.kind not in "buif":
        raise TypeError(f"{name} has dtype {image.dtype}, expected real numbers")
    if image.ndim == 2:
        image = image[..., np.newaxis]
    return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)


def from_planes(planes: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The shape and dtype of ``like``: integers are rounded and clipped to their range."""
    image = planes[0] if like.ndim == 2 else planes.transpose(1, 2, 0)
    return cast_like(image, like.dtype)


def cast_like(image: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Float image as ``dtype``; integers are rounded and clipped to their range."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return image >= 0.5
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        rounded = np.rint(image)
        # float32 cannot hold the upper limits of 32- and 64-bit integers: clip where the cast is exact
        top = np.nextafter(np.float32(limits.max), np.float32(0)) if dtype.itemsize >= 4 else limits.max
        return np.clip(rounded, limits.min, top, out=rounded).astype(dtype)
    return np.ascontiguousarray(image, dtype=dtype)


def flow_components(w: ArrayLike, shape: tuple[int, int], name: str = "w") -> tuple[np.ndarray, np.ndarray]:
    """Contiguous float32 u and v of a displacement field.

    Parameters
    ----------
    w : array_like, shape (H, W, 2)
    shape : tuple of int
        (H, W) of the image it belongs to.
    name : str
        What to call it in an error.

    Returns
    -------
    u, v : ndarray, shape (H, W), float32

    Raises
    ------
    ValueError
        The shapes differ.
    """
    w = np.asarray(w)
    if w.shape != (*shape, 2):
        raise ValueError(f"{name} has shape {w.shape}, expected {(*shape, 2)} for an image of {shape}")
    return (
        np.ascontiguousarray(w[..., 0], dtype=np.float32),
        np.ascontiguousarray(w[..., 1], dtype=np.float32),
    )
