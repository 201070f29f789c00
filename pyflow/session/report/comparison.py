"""What registration did to a recording, measured on some of its frames, however many there are."""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyflow.flow.filters import gaussian_filter, resize
from pyflow.io import VideoReader
from pyflow.layout import open_masks
from pyflow.motion.frames import FrameSource, spread

FRAMES = 64
"""Frames that are compared. The mean of so many shows what the mean of all shows."""

CRISPNESS_SIGMA = 1.5
"""Pixels by which a mean is smoothed before its gradient is taken: of noise, registration interpolates some away."""

_SIDE = 256  # frames are correlated at no more than this: it bounds the memory
_VALID_SHARE = 0.9  # pixels count that are valid in so many of the frames, and in at least _LEAST of all pixels
_LEAST = 0.25


@dataclass(frozen=True)
class Comparison:
    """The same frames as recorded and as registered; what is about the recorded ones is None where they are gone.

    Parameters
    ----------
    frames
        int (N,), which frames.
    mean_before, mean_after
        float64 (H, W), means of these frames' first channel.
    correlation_before, correlation_after
        float64 (N,), of each frame with its mean.
    crispness_before, crispness_after
        Norm of the smoothed mean's gradient (after Pnevmatikakis and Giovannucci 2017): larger for a sharper mean.
    """

    frames: np.ndarray
    mean_before: np.ndarray | None
    mean_after: np.ndarray
    correlation_before: np.ndarray | None
    correlation_after: np.ndarray
    crispness_before: float | None
    crispness_after: float


def compare(
    recorded: FrameSource | None, registered: VideoReader, masks: Path | None, marked: Collection[int]
) -> Comparison:
    """Compare frames from all over a recording before and after registration, less those that were not registered.

    Parameters
    ----------
    recorded
        The recording as stage 1 saw it; None where it is gone.
    registered
        What stage 1 made of it.
    masks
        Its ``idx.hdf``: only pixels count that come from inside the image. None: all count.
    marked
        Frames that were not registered.

    Raises
    ------
    ValueError
        The two differ in frames or size, or no frame was registered.
    OSError
        A file cannot be read.
    """
    shape = (registered.frame_count, *registered.shape[1:3])
    if recorded is not None and (len(recorded), *recorded.frame_shape[:2]) != shape:
        raise ValueError(
            f"the input has {len(recorded)} frames of {recorded.frame_shape[:2]}, "
            f"the registered video {shape[0]} of {shape[1:]}"
        )
    usable = np.setdiff1d(np.arange(shape[0]), sorted(marked))
    if not len(usable):
        raise ValueError("no frame was registered")
    frames = usable[spread(len(usable), FRAMES)]
    with ExitStack() as stack:
        known = None if masks is None else stack.enter_context(open_masks(masks))
        counts = np.zeros(shape[1:])
        for t in frames if known is not None else ():
            counts += known[int(t)] != 0
    inside = counts >= _VALID_SHARE * len(frames)
    if inside.mean() < _LEAST:
        inside[:] = True
    after = _Mean(frames, inside, lambda t: registered[t, ..., 0])
    before = None if recorded is None else _Mean(frames, inside, lambda t: recorded.read(t, t + 1)[0, ..., 0])
    return Comparison(
        frames=frames,
        mean_before=before and before.mean,
        mean_after=after.mean,
        correlation_before=before and before.correlation,
        correlation_after=after.correlation,
        crispness_before=before and before.crispness,
        crispness_after=after.crispness,
    )


class _Mean:
    """The mean of some frames, and how they resemble it: `read` returns a frame (H, W)."""

    def __init__(self, frames: np.ndarray, inside: np.ndarray, read: Callable[[int], np.ndarray]) -> None:
        factor = max(1, -(-max(inside.shape) // _SIDE))
        small = tuple(max(1, side // factor) for side in inside.shape)
        counts = inside if factor == 1 else np.abs(resize(inside.astype(np.float32), small, n_threads=1) - 1) < 0.01
        counts = counts if counts.any() else np.ones(small, bool)
        self.mean = np.zeros(inside.shape)
        pixels = np.empty((len(frames), np.count_nonzero(counts)), np.float32)
        for row, t in zip(pixels, frames, strict=True):
            frame = np.nan_to_num(read(int(t)).astype(np.float32), posinf=0, neginf=0)
            self.mean += frame
            row[:] = (frame if factor == 1 else resize(frame, small, n_threads=1))[counts]
        self.mean /= len(frames)
        self.correlation = _correlations(pixels, pixels.mean(axis=0, dtype=np.float64))
        self.crispness = _crispness(self.mean, inside)


def _correlations(frames: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Pearson correlation of each row with a mean."""
    mean = mean - mean.mean()
    found = np.empty(len(frames))
    for t, frame in enumerate(frames):
        other = frame - frame.mean(dtype=np.float64)
        norm = np.sqrt(np.square(mean).sum() * np.square(other).sum())
        found[t] = (mean * other).sum() / max(norm, np.finfo(float).tiny)
    return found


def _crispness(image: np.ndarray, inside: np.ndarray) -> float:
    if min(image.shape) < 2:
        return 0.0
    rows, columns = np.gradient(gaussian_filter(image, CRISPNESS_SIGMA, n_threads=1))
    return float(np.sqrt((rows**2 + columns**2)[inside].sum()))
