"""Bidirectional scanning: every second line is recorded backward, and lies some pixels beside the others."""

from collections.abc import Sequence

import numpy as np
import scipy.fft

LINE_FRAMES = 64  # of a recording, that tell the shift

# Whole shifts of a galvanometer or a resonant mirror are smaller, in parts of a line and in pixels.
_MOST_OF_WIDTH = 8
_MOST_PX = 20

_SMOOTHING_PX = 0.5  # against noise, whose spectrum is white

_PEAK_PX = 6  # to either side of a peak its slopes, or those of neighbouring structure, end

# The peak has to stand out of the correlation elsewhere, and at no shift, in standard deviations.
_CLEAR = 5.0
_CLEAR_OF_NONE = 3.0


def line_shift(frames: Sequence[np.ndarray]) -> int:
    """Find by how many pixels the odd lines have to be moved to lie under the others.

    Lines are correlated with the mean of the two beside them over all frames, each frequency by how coherent both are.

    Parameters
    ----------
    frames
        (H, W, C) each, as recorded.

    Returns
    -------
    int
        Pixels to the right, as suite2p's ``bidiphase``; 0 where the images show no shift.
    """
    cross, power, power_beside = 0.0, 0.0, 0.0
    for frame in frames:
        height, width = frame.shape[:2]
        if height < 3 or width < 2 * _MOST_OF_WIDTH:
            return 0
        images = np.nan_to_num(np.moveaxis(frame, -1, 0).astype(np.float64))
        images = images - images.mean(axis=(1, 2), keepdims=True)
        last = height - 1 if height % 2 else height - 2  # the last even line that has an odd one above it
        odd, even = images[:, 1:last:2], images[:, 0 : last + 1 : 2]
        beside = (even[:, :-1] + even[:, 1:]) / 2
        beside, odd = scipy.fft.rfft(beside, axis=2), scipy.fft.rfft(odd, axis=2)
        cross = cross + (beside * odd.conj()).sum(axis=(0, 1))
        power = power + (np.abs(odd) ** 2).sum(axis=(0, 1))
        power_beside = power_beside + (np.abs(beside) ** 2).sum(axis=(0, 1))
    if not np.any(cross):
        return 0
    spectrum = cross / np.sqrt(np.maximum(power * power_beside, np.finfo(float).tiny))
    low = np.exp(-2 * (np.pi * _SMOOTHING_PX * np.fft.rfftfreq(width)) ** 2)
    correlation = scipy.fft.irfft(spectrum * low, width)
    most = min(_MOST_PX, width // _MOST_OF_WIDTH)
    shifts = np.arange(-most, most + 1)
    found = correlation[shifts]
    best = int(shifts[found.argmax()])
    rest = np.delete(correlation, np.arange(best - _PEAK_PX, best + _PEAK_PX + 1))
    # Side by side, the noise of a correlation is much the same.
    steps = (correlation - np.roll(correlation, best))[np.r_[most + abs(best) : width - most - abs(best)]]
    clear = correlation[best] - rest.mean() > _CLEAR * rest.std()
    return best if clear and correlation[best] - correlation[0] > _CLEAR_OF_NONE * steps.std() else 0


def shift_lines(frames: np.ndarray, shift: int) -> np.ndarray:
    """Return frames (n, H, W, C) with the odd lines moved to the right by some pixels, to the left by negative ones.

    At the edge a line keeps the pixels that nothing takes the place of.
    """
    if not shift:
        return frames
    out = frames.copy()
    if shift > 0:
        out[:, 1::2, shift:] = frames[:, 1::2, :-shift]
    else:
        out[:, 1::2, :shift] = frames[:, 1::2, -shift:]
    return out
