"""Which of many averages is the best centre."""

from collections.abc import Callable, Sequence

import numpy as np

from pyflow.align.between import comparable
from pyflow.align.start import shift_likeness

_MOST = 24  # averages that are compared with each other: the number of pairs grows with its square


def most_central(averages: Sequence[Callable[[], np.ndarray]]) -> int:
    """Return the index of the average that resembles the others most.

    The criterion is the mean, over the other averages, of how much the best shift explains: the correlation of the
    structures where they overlap times the square root of the overlap (see `pyflow.align.start`). Of averages that are
    equally good, the one nearest to the middle.

    Parameters
    ----------
    averages
        Each returns an average (H, W) or (H, W, C) of one shape. Of more than 24, that many are compared, evenly
        spread over all.

    Returns
    -------
    int
    """
    n = len(averages)
    middle = (n - 1) // 2
    chosen = np.unique(np.append(np.linspace(0, n - 1, min(n, _MOST)).round().astype(int), middle))
    images = [np.asarray(averages[i](), np.float32) for i in chosen]
    likeness = np.zeros((len(chosen), len(chosen)))
    for a in range(len(chosen)):
        for b in range(a):
            pair = comparable(images[a], images[b])
            likeness[a, b] = likeness[b, a] = round(shift_likeness(*pair), 3) if pair[0].size else 0.0
    total = likeness.sum(axis=0)
    best = chosen[total == total.max()]
    return int(best[np.abs(best - middle).argmin()])
