"""How much of a video is handled at once where nobody says."""

import math

import numpy as np

_PIECE_BYTES = 1 << 24


def piece_length(frame_shape: tuple[int, int, int], dtype: np.dtype) -> int:
    """Return how many frames to handle at once."""
    return max(1, _PIECE_BYTES // (math.prod(frame_shape) * dtype.itemsize))
