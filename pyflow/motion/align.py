"""A recording's frames in the frame of another."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pyflow.flow.warp import imregister
from pyflow.io import VideoReader
from pyflow.threads import resolve_threads


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
    if np.issubdtype(reader.dtype, np.integer):
        limits = np.iinfo(reader.dtype)
        fill = np.clip(np.rint(fill), limits.min, limits.max)
    fill = fill.astype(reader.dtype)
    with ThreadPoolExecutor(resolve_threads(n_threads)) as pool:
        for _, frames in reader.batches(chunk_size):
            warped = pool.map(lambda frame: imregister(frame, displacement, fill=fill, n_threads=1), frames)
            yield np.stack(list(warped))
