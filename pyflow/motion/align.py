"""Warp frames into the frame of another image: a movie in memory, or a recording some frames at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pyflow.flow.warp import imregister
from pyflow.io import VideoReader
from pyflow.threads import resolve_threads


def align_sequence(
    frames: np.ndarray,
    displacement: np.ndarray,
    reference: np.ndarray,
    *,
    interpolation: str = "cubic",
    n_threads: int = 0,
) -> np.ndarray:
    """Warp all frames of a movie backward.

    Parameters
    ----------
    frames
        (T, H, W) or (T, H, W, C), any integer or floating type.
    displacement
        float32, pixels, backward: (H, W, 2) for all frames alike, or (T, H, W, 2), one for each.
    reference
        (H, W) or (H, W, C): what pixels from outside a frame show.
    interpolation
        ``"cubic"``, ``"linear"`` or ``"nearest"``.
    n_threads
        Frames warped at once; 0 for all threads this process may use.

    Returns
    -------
    ndarray
        The shape and type of `frames`.

    Raises
    ------
    ValueError
        Shapes do not fit each other, or the interpolation is unknown.
    """
    frames, displacement, fill = np.asarray(frames), np.asarray(displacement), np.asarray(reference)
    if frames.ndim not in (3, 4):
        raise ValueError(f"frames have shape {frames.shape}, expected (T, H, W) or (T, H, W, C)")
    shape = frames.shape[1:]
    if fill.size == np.prod(shape) and fill.shape[:2] == shape[:2]:  # one channel may have an axis or not
        fill = fill.reshape(shape)
    field = (*shape[:2], 2)
    if fill.shape != shape or displacement.shape not in (field, (len(frames), *field)):
        raise ValueError(
            f"displacement has shape {displacement.shape} and reference {np.shape(reference)}, expected "
            f"{field} or {(len(frames), *field)}, and {shape}, for frames of shape {frames.shape}"
        )
    if frames.dtype.kind in "ui":
        limits = np.iinfo(frames.dtype)
        fill = np.clip(np.rint(fill), limits.min, limits.max)
    fill = fill.astype(frames.dtype)
    fields = [displacement] * len(frames) if displacement.ndim == 3 else displacement
    out = np.empty_like(frames)

    def warp(t: int) -> None:
        out[t] = imregister(frames[t], fields[t], fill=fill, interpolation=interpolation, n_threads=1)

    with ThreadPoolExecutor(resolve_threads(n_threads)) as pool:
        list(pool.map(warp, range(len(frames))))
    return out


def aligned_frames(
    reader: VideoReader,
    displacement: np.ndarray,
    reference_average: np.ndarray,
    *,
    chunk_size: int = 64,
    n_threads: int = 0,
) -> Iterator[np.ndarray]:
    """Warp a video's frames into the frame of a reference, some at a time.

    Parameters
    ----------
    reader
        The video.
    displacement
        (H, W, 2) float32, pixels, backward, into the reference's frame.
    reference_average
        (H, W) or (H, W, C): what pixels from outside the recording show.
    chunk_size
        Frames in memory at a time.
    n_threads
        Frames warped at once; 0 for all threads this process may use.

    Yields
    ------
    ndarray
        (n, H, W, C) in the video's dtype.

    Raises
    ------
    ValueError
        The displacement's or average's shape does not match the video's.
    """
    frame_shape = reader.shape[1:]
    fill = reference_average.reshape(*reference_average.shape[:2], -1)
    if displacement.shape[:2] != frame_shape[:2] or fill.shape != frame_shape:
        raise ValueError(
            f"{reader.path}: frames of shape {frame_shape}, but displacement {displacement.shape} "
            f"and reference average {reference_average.shape}"
        )
    for _, frames in reader.batches(chunk_size):
        yield align_sequence(frames, displacement, fill, n_threads=n_threads)
