"""Simulate how a field of view moves while it is recorded."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pyflow.simulate.scene import SPLINE_BORDER


@dataclass(frozen=True)
class Conditions:
    """The conditions under which recordings are taken.

    Attributes
    ----------
    shape : (int, int)
        (H, W) of a frame, at least 32 x 32.
    n_frames : int
    photons : float
        Mean photons per pixel and frame; 3 is dark, 40 bright.
    rigid_px, nonrigid_px : float
        Largest displacement of the whole frame, and of its bending beyond that, in pixels.
    jerks : int
        Sudden movements of up to `rigid_px` more, over within a few frames.
    scan_shear : bool
        Rows are scanned one after the other while the brain moves; False: every frame is taken at once.
    read_noise : float
        Standard deviation in photons.
    frame_rate_hz : float

    Raises
    ------
    ValueError
        A size or amount is negative, or the frame smaller than 32 x 32.
    """

    shape: tuple[int, int]
    n_frames: int
    photons: float = 12.0
    rigid_px: float = 4.0
    nonrigid_px: float = 1.5
    jerks: int = 3
    scan_shear: bool = True
    read_noise: float = 0.5
    frame_rate_hz: float = 15.0

    def __post_init__(self) -> None:
        if min(self.shape) < 32:
            raise ValueError(f"shape is {self.shape}, expected at least (32, 32)")
        if self.n_frames < 1 or self.photons <= 0 or self.rigid_px < 0 or self.nonrigid_px < 0:
            raise ValueError(
                f"n_frames {self.n_frames}, photons {self.photons}, rigid_px {self.rigid_px}, "
                f"nonrigid_px {self.nonrigid_px}: expected at least 1, positive, and two that are not negative"
            )


def margin_of(conditions: Conditions, shift_px: float = 0.0) -> int:
    """Return how far the canvas reaches beyond the frame on every side, in pixels.

    That is as far as motion and a shift can look, and the border of the spline.
    """
    return int(np.ceil(2 * conditions.rigid_px + conditions.nonrigid_px + shift_px)) + SPLINE_BORDER


def motion_of(conditions: Conditions, rng: np.random.Generator) -> np.ndarray:
    """Return where each pixel of each frame looks, relative to rest: float32 (T, H, W, 2), pixels."""
    shape, n_frames, rigid_px = conditions.shape, conditions.n_frames, conditions.rigid_px
    per_frame = 16
    time = np.arange(n_frames * per_frame + 1) / per_frame
    walk = ndimage.gaussian_filter1d(rng.standard_normal((2, len(time))).cumsum(axis=1), 2.0 * per_frame, axis=1)
    breathing = np.sin(2 * np.pi * rng.uniform(1.5, 2.5) / conditions.frame_rate_hz * time + rng.uniform(0, 6))
    path = scaled(walk - walk.mean(axis=1, keepdims=True), 0.8 * rigid_px)
    path += 0.2 * rigid_px * breathing * rng.uniform(-1, 1, (2, 1))
    for start in rng.uniform(0, n_frames, conditions.jerks):
        direction = rng.uniform(-1, 1, (2, 1)) * rigid_px
        since = np.maximum(time - start, 0)  # long before, the exponentials overflow
        path += direction * np.exp(-since / 1.2) * (1 - np.exp(-since / 0.15))
    row_time = np.arange(shape[0]) / shape[0] if conditions.scan_shear else np.zeros(shape[0])
    motion = bending(shape, n_frames, conditions.nonrigid_px, rng)
    for t in range(n_frames):
        for axis in (0, 1):
            motion[t, ..., axis] += np.interp(t + row_time, time, path[axis])[:, np.newaxis]
    return motion


def bending(shape: tuple[int, int], n_frames: int, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Displacement (T, H, W, 2), smooth in space and time, largest component `amplitude`."""
    knots = rng.standard_normal((n_frames, 5, 5, 2))
    if n_frames > 1:
        knots = ndimage.gaussian_filter1d(knots, min(4.0, n_frames / 4), axis=0, mode="nearest")
    knots = scaled(knots - knots.mean(axis=(0, 1, 2)), amplitude)
    at = np.meshgrid(np.linspace(0, 4, shape[0]), np.linspace(0, 4, shape[1]), indexing="ij")
    field = np.empty((n_frames, *shape, 2), np.float32)
    for t in range(n_frames):
        for axis in (0, 1):
            field[t, ..., axis] = ndimage.map_coordinates(knots[t, ..., axis], at, order=3, mode="mirror")
    return field


def scaled(values: np.ndarray, largest: float) -> np.ndarray:
    """Values times the factor that makes the largest, without its sign, `largest`."""
    top = np.abs(values).max()
    return values * (largest / top) if top > 0 else values
