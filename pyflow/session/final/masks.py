"""Masks of the pixels of a recording that are valid in its frames."""

import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np

from pyflow.flow.warp import valid_mask
from pyflow.io.pieces import piece_length
from pyflow.layout import MASK_FILE, find_flow, iterate_masks

logger = logging.getLogger(__name__)

MASK_BYTES = 2 << 20  # of a recording's masks read at a time; more is slower, and has to be held three times


def load_idx_and_compute_mask(idx_path: Path, valid_fraction: float = 1.0) -> np.ndarray:
    """Reduce a recording's per-frame masks to one.

    Parameters
    ----------
    idx_path
        An ``idx.hdf``.
    valid_fraction
        Fraction of the frames in which a pixel has to be valid; 1 is the logical AND.

    Returns
    -------
    ndarray
        (H, W) bool.

    Raises
    ------
    ValueError
        The file cannot be read, or no frame has a valid pixel.
    """
    counts, n_frames = count_valid(idx_path)
    return valid_often(counts, n_frames, valid_fraction)


def count_valid(idx_path: Path) -> tuple[np.ndarray, int]:
    """Count in how many frames each pixel is valid, reading the file in chunks.

    Frames without any valid pixel (NaN in the input, motion beyond the image) say nothing about single pixels
    and are left out.

    Returns
    -------
    counts : ndarray
        (H, W) int64.
    n_frames : int
        Frames that count.

    Raises
    ------
    ValueError
        The file cannot be read, or no frame has a valid pixel.
    """
    return _count(idx_path, iterate_masks(idx_path, MASK_BYTES))


def count_valid_of_recording(folder: Path, shape: tuple[int, int], n_bytes: int = MASK_BYTES) -> tuple[np.ndarray, int]:
    """Count in how many frames of a recording each pixel is valid.

    Where there is no ``idx.hdf``, as MATLAB may leave the folder, the displacement fields tell it; where there are none
    either, every pixel is taken for valid.

    Parameters
    ----------
    folder
        The recording's.
    shape
        (H, W) that the masks must have.
    n_bytes
        Bytes of masks that may be read at a time.

    Returns
    -------
    counts : ndarray
        (H, W) int64.
    n_frames : int
        Frames that count, see `count_valid`.

    Raises
    ------
    ValueError
        The file cannot be read, no frame has a valid pixel, or the masks have another shape.
    """
    fields = find_flow(folder)
    if (folder / MASK_FILE).is_file():
        source = folder / MASK_FILE
        counts, n_frames = _count(source, iterate_masks(source, n_bytes))
    elif fields is not None:
        source = fields
        counts, n_frames = _count(source, _inside(source, n_bytes))
    else:
        logger.warning("%s: neither %s nor displacement fields; taking every pixel for valid", folder, MASK_FILE)
        return np.ones(shape, np.int64), 1
    if counts.shape != shape:
        raise ValueError(f"{source}: masks of shape {counts.shape}, but the average has {shape}")
    return counts, n_frames


def _count(idx_path: Path, chunks: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """Count as `count_valid` says, in masks (n, H, W)."""
    counts, n_frames, n_empty = 0, 0, 0
    for masks in chunks:
        some = masks.any(axis=(1, 2))
        counts = counts + np.count_nonzero(masks, axis=0)
        n_frames += int(some.sum())
        n_empty += int((~some).sum())
    if n_frames == 0:
        raise ValueError(f"{idx_path}: no frame has a valid pixel")
    if n_empty:
        logger.warning(
            "%s: %d of %d frames have no valid pixel and are left out", idx_path, n_empty, n_frames + n_empty
        )
    return counts, n_frames


def _inside(path: Path, n_bytes: int) -> Iterator[np.ndarray]:
    """Yield masks (n, H, W) of the pixels that come from inside the image, from fields ``u`` and ``v``."""
    with h5py.File(path, "r") as file:
        u, v = file["u"], file["v"]
        step = piece_length((*u.shape[1:], 2), np.float64, n_bytes)
        for first in range(0, len(u), step):
            chunk = np.stack([u[first : first + step], v[first : first + step]], axis=-1).astype(np.float32)
            yield np.stack([valid_mask(w) for w in chunk])


def valid_often(counts: np.ndarray, n_frames: int, valid_fraction: float) -> np.ndarray:
    """Return which pixels are valid in a fraction of the frames: (H, W) bool."""
    return counts >= math.ceil(valid_fraction * n_frames - 1e-9)  # 0.56 * 25 is a little more than 14
