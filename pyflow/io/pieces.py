"""How much of a video is handled at once."""

import math

import numpy as np
from numpy.typing import DTypeLike

_PIECE_BYTES = 1 << 24  # where nobody says


def piece_length(frame_shape: tuple[int, ...], dtype: DTypeLike, n_bytes: int = _PIECE_BYTES) -> int:
    """Return how many frames of a shape and type make about so many bytes, one at least."""
    return max(1, n_bytes // max(1, math.prod(frame_shape) * np.dtype(dtype).itemsize))
