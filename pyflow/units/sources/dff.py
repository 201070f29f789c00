"""dF/F for sources that keep fluorescence only."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d

logger = logging.getLogger(__name__)

SMOOTHING_FRAMES = 10.0  # both as suite2p has them by default
WINDOW_S = 60.0


def running_baseline(traces: ArrayLike, window: int, smoothing: float = SMOOTHING_FRAMES) -> np.ndarray:
    """Lower envelope of smoothed traces: a running minimum, then a running maximum.

    Parameters
    ----------
    traces : (T,) or (n, T) array
    window : int
        Length of both, frames.
    smoothing : float
        Standard deviation of the Gaussian before them, frames.

    Returns
    -------
    float64 array of the same shape
    """
    smooth = gaussian_filter1d(np.asarray(traces, np.float64), smoothing, axis=-1)
    return maximum_filter1d(minimum_filter1d(smooth, window, axis=-1), window, axis=-1)


def dff(
    traces: np.ndarray, frame_rate_hz: float, *, window_s: float = WINDOW_S, smoothing: float = SMOOTHING_FRAMES
) -> np.ndarray:
    """Change of fluorescence against its running baseline F0, (F - F0) / F0.

    Parameters
    ----------
    traces : (n, T) array
        Neuropil already subtracted, where there is any.
    frame_rate_hz : float
    window_s, smoothing
        Of `running_baseline`, in seconds and frames.

    Returns
    -------
    (n, T) float32 array
        NaN where the trace is, and where the baseline is not positive, which is logged: the ratio would mean nothing.
    """
    window = max(1, round(window_s * frame_rate_hz))
    ratios = np.full(np.shape(traces), np.nan, np.float32)
    undefined = 0
    for trace, ratio in zip(traces, ratios, strict=True):  # one by one, for the sake of memory
        baseline = running_baseline(_bridged(trace), window, smoothing)
        positive = baseline > 0
        undefined += not positive.all()
        np.divide(trace - baseline, baseline, out=ratio, where=positive, casting="same_kind")
    if undefined:
        logger.warning("%d of %d traces have a baseline of 0 or less", undefined, len(ratios))
    return ratios


def _bridged(trace):
    """The trace with straight lines where it is NaN, for filters that would spread them."""
    known = np.isfinite(trace)
    if known.all() or not known.any():
        return trace
    return np.interp(np.arange(len(trace)), np.flatnonzero(known), trace[known])
