"""Decide which frames can be registered and believed, and say why others cannot.

A frame that shows something else than its reference (another depth, a flash, an artefact) is marked instead of bent
onto it.
"""

from collections.abc import Iterable
from functools import reduce

import numpy as np

from pyflow.flow.filters import block_means, resize

NOT_FINITE = 1
CONSTANT = 2
TOO_FAR = 3
MISFIT = 4
OUTSIDE = 5
PROBLEMS = {
    NOT_FINITE: "contains NaN or inf",
    CONSTANT: "all pixels are equal",
    TOO_FAR: "displaced by more than max_displacement",
    MISFIT: "does not resemble the reference, even registered",
    OUTSIDE: "too little of the reference lies inside it",
}

LEAST_OVERLAP = 0.25
"""Least part of the pixels that come from inside a frame: on fewer, resemblance is chance."""

LEAST_FRAMES = 12
"""Misfits of fewer frames do not tell what is usual."""

# Rather a misfit among the frames than a frame missing, as when many cells fire at once: standard deviations above
# the median, and no limit is lower.
_FAR = 8.0
_LOWEST_LIMIT = 0.5

# Frames that follow each other in which a pattern is looked for, its longest period, and how often a period has to
# recur among them.
PATTERN_FRAMES = 256
_LONGEST_PERIOD = 16
_RECURRENCES = 6

# By so much the images of one phase have to resemble each other more than those of two, at least; and by so many
# standard deviations of a correlation of noise.
_UNLIKE = 0.05
_UNLIKELY = 6.0

_REDUCTION = 4  # against noise, which is finer than what frames have in common


def frame_problem(frame: np.ndarray) -> int:
    """Return why a frame (H, W, C) cannot be registered at all, a key of `PROBLEMS`, or 0 if it can."""
    if frame.dtype.kind == "f" and not np.isfinite(frame).all():
        return NOT_FINITE
    return CONSTANT if frame.min() == frame.max() else 0


def overlap(valid: np.ndarray) -> float:
    """Return which part, 0 to 1, of the pixels of a bool mask (H, W) is valid."""
    return np.count_nonzero(valid) / valid.size


class Misfit:
    """Measures how little images resemble a reference.

    A misfit is 1 less the correlation of the two, both reduced to a quarter against noise.

    Parameters
    ----------
    reference
        (H, W, C), any real dtype.
    """

    def __init__(self, reference: np.ndarray) -> None:
        self._sides = tuple(min(_REDUCTION, side) for side in reference.shape[:2])
        self._reference = block_means(reference, self._sides)
        self._normalized = _normalized(self._reference, (0, 1))

    def __call__(self, image: np.ndarray, valid: np.ndarray | None = None) -> float:
        """Return the misfit of an image.

        Parameters
        ----------
        image
            (H, W, C), registered.
        valid
            bool (H, W): only these pixels count, for the others say nothing about the image. None: all.

        Returns
        -------
        float
            0 to 2; 1 where no pixel counts.
        """
        small = block_means(image, self._sides)
        inside = np.ones(1, bool) if valid is None else self._whole(valid)
        if inside.all():
            return 1.0 - _product(_normalized(small, (0, 1)), self._normalized)
        return 1.0 - _product(_normalized(_at(small, inside), 0), _normalized(_at(self._reference, inside), 0))

    def _whole(self, valid: np.ndarray) -> np.ndarray:
        """Return which blocks have valid pixels only."""
        for axis, side in enumerate(self._sides):
            stop = valid.shape[axis] // side * side
            parts = (valid[(slice(None),) * axis + (slice(k, stop, side),)] for k in range(side))
            valid = reduce(np.logical_and, parts)
        return valid


def _at(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the pixels (N, C) where a mask (H, W) is True; several times as fast as indexing by it."""
    return image.reshape(-1, image.shape[2]).compress(inside.ravel(), axis=0)


def _product(one: np.ndarray, other: np.ndarray) -> float:
    """Return the sum of products; linear algebra libraries start threads for it, which wait for each other here."""
    return float((one * other).sum())


def _normalized(image: np.ndarray, pixels: int | tuple[int, int]) -> np.ndarray:
    """Take each channel's mean over the axes of the pixels away, and scale to a norm of 1."""
    if not image.size:
        return image
    image = image - image.mean(axis=pixels)
    return image / max(np.sqrt(_product(image, image)), np.finfo(np.float32).tiny)


def period_of(frames: Iterable[np.ndarray]) -> int:
    """Return after how many frames a recording shows the same again, though not in between: 1 if it always does.

    Where channels or planes interleave and were taken for frames, each shows an image of its own. The frames of every
    phase of a period are averaged in two halves, taken alternately, so that noise and motion are the same in both; the
    period stands out if the halves of one phase resemble each other more than those of different phases.

    Parameters
    ----------
    frames
        (H, W, C) each, one after the other in time.

    Returns
    -------
    int
        The shortest such period.
    """
    small = []
    for frame in frames:
        shape = tuple(max(1, side // _REDUCTION) for side in frame.shape[:2])
        small.append(resize(np.nan_to_num(frame), shape, n_threads=1))
    if not small:
        return 1
    small, noise = np.stack(small), 1 / np.sqrt(np.prod(shape))
    for period in range(2, min(_LONGEST_PERIOD, len(small) // _RECURRENCES) + 1):
        first = [_flat_normalized(small[phase :: 2 * period].mean(axis=0, dtype=np.float64)) for phase in range(period)]
        second = [
            _flat_normalized(small[phase + period :: 2 * period].mean(axis=0, dtype=np.float64))
            for phase in range(period)
        ]
        alike = np.array(first) @ np.array(second).T
        same = np.trace(alike) / period
        others = (alike.sum() - np.trace(alike)) / (period * (period - 1))
        if same - others > max(_UNLIKE, _UNLIKELY * noise * np.sqrt(2 / period)):
            return period
    return 1


def _flat_normalized(image: np.ndarray) -> np.ndarray:
    return _normalized(image, (0, 1)).ravel()


def misfit_limit(misfits: np.ndarray) -> float:
    """Return the largest misfit of frames that show what the reference shows.

    Parameters
    ----------
    misfits
        float (N,), of frames from all over the recording, registered.

    Returns
    -------
    float
        Far above them; inf where there are fewer than `LEAST_FRAMES`.
    """
    if len(misfits) < LEAST_FRAMES:
        return np.inf
    median = np.median(misfits)
    spread = 1.48 * np.median(np.abs(misfits - median))
    return float(max(median + _FAR * spread, 2 * median, _LOWEST_LIMIT))
