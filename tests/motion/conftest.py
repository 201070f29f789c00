"""A small textured scene, moved by known amounts."""

import numpy as np
import pytest
import scipy.ndimage

MARGIN = 16


class Scene:
    """An image larger than a frame, of which frames at known displacements are cut."""

    def __init__(self, rng, height=64, width=72, n_channels=1):
        size = (height + 2 * MARGIN, width + 2 * MARGIN)
        planes = [scipy.ndimage.gaussian_filter(rng.normal(size=size), 2) for _ in range(n_channels)]
        image = np.stack([(p - p.min()) / np.ptp(p) for p in planes], axis=-1)
        self.image = 200 + 3000 * image

    def frame(self, u=0.0, v=0.0):
        """Frame whose backward displacement onto ``frame()`` is (u, v) everywhere."""
        moved = scipy.ndimage.shift(self.image, (v, u, 0), order=3, mode="nearest")
        return moved[MARGIN:-MARGIN, MARGIN:-MARGIN]

    def movie(self, shifts, dtype=np.uint16):
        """Frames (T, H, W, C) at displacements (T, 2)."""
        frames = np.stack([self.frame(u, v) for u, v in shifts])
        return (np.rint(frames) if np.dtype(dtype).kind in "ui" else frames).astype(dtype)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def scene(rng):
    return Scene(rng)


@pytest.fixture
def two_channels(rng):
    return Scene(rng, n_channels=2)


@pytest.fixture
def shifts(rng):
    return rng.uniform(-3, 3, (12, 2))
