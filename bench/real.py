"""Real recordings, which have no known truth: does the motion found in one half of a frame's rows register the other?

Even and odd rows of a frame show the same motion through independent noise, so fitting noise in the ones does not help
with the others: a frame bent onto the template's pattern gains nothing here. Missing rows are interpolated.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.methods import METHODS
from pyflow.flow.warp import imregister
from pyflow.io import open_video
from pyflow.motion.noise import even_and_odd_rows

RECORDINGS = (
    "two_photon_fly_241x372_40f.tif",
    "two_photon_256x256_200f.tif",
    "two_photon_128x256_20f.tif",
    "two_photon_100x100_100f.h5",
)
COMPARED = (
    "pyflow quality, alpha auto",
    "pyflow balanced, alpha auto",
    "pyflow balanced, alpha 1.5",
    "OpenCV DIS fast, blurred",
)
BORDER = 12
_ALIKE = 20


def measure(path: Path) -> Iterator[tuple[str, float, float]]:
    """Method, mean correlation of registered frames with the mean of the others, sharpness of the mean."""
    with open_video(path) as video:
        movie = video[..., 0]
    reference = movie[_most_alike(movie)].mean(axis=0, dtype=np.float64)
    halves = np.stack([even_and_odd_rows(frame[..., np.newaxis]) for frame in movie], axis=1)[..., 0]
    sharp = np.mean([_sharpness(half) for half in halves])
    yield "as recorded", float(np.mean([_held_out(half) for half in halves])), 1.0
    for name in COMPARED:
        fields = [METHODS[name].run(half, reference)[0] for half in halves]
        registered = [
            np.stack([imregister(frame, w, fill=reference) for frame, w in zip(half, found, strict=True)])
            for half, found in zip(halves, fields[::-1], strict=True)
        ]
        correlation = np.mean([_held_out(frames) for frames in registered])
        yield name, float(correlation), float(np.mean([_sharpness(frames) for frames in registered]) / sharp)


def _most_alike(movie: np.ndarray) -> np.ndarray:
    """Frames that resemble each other most."""
    correlation = np.corrcoef(movie.reshape(len(movie), -1).astype(np.float32))
    nearest = np.argsort(-correlation, axis=1)[:, :_ALIKE]
    together = np.take_along_axis(correlation, nearest, axis=1).mean(axis=1)
    return nearest[together.argmax()]


def _held_out(frames: np.ndarray) -> float:
    """Mean correlation of even frames with the mean of the odd ones, and the other way round."""
    inside = frames[:, BORDER:-BORDER, BORDER:-BORDER].reshape(len(frames), -1).astype(np.float32)
    pairs = (inside[::2], inside[1::2]), (inside[1::2], inside[::2])
    return float(np.mean([np.corrcoef(frame, other.mean(axis=0))[0, 1] for half, other in pairs for frame in half]))


def _sharpness(frames: np.ndarray) -> float:
    mean = frames.mean(axis=0, dtype=np.float64)[BORDER:-BORDER, BORDER:-BORDER]
    return float(np.hypot(*np.gradient(mean)).mean())
