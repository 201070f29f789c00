"""Averages of two recordings, days apart."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pyflow._help import short_repr
from pyflow.simulate.movement import bending
from pyflow.simulate.scene import SPLINE_BORDER, Scene
from pyflow.simulate.truth import invert


@short_repr
@dataclass(frozen=True)
class SimulatedPair:
    """Temporal averages of two recordings and how the second is displaced against the first.

    Attributes
    ----------
    reference, moving : ndarray, shape (H, W), float32
        The averages, in grey values.
    displacement_px : ndarray, shape (H, W, 2), float32
        Backward, in pixels: ``reference(y, x)`` shows what ``moving(y + v, x + u)`` shows.
    """

    reference: np.ndarray
    moving: np.ndarray
    displacement_px: np.ndarray


def simulate_pair(
    shape: tuple[int, int] = (256, 256),
    *,
    shift_px: tuple[float, float] = (0.0, 0.0),
    rotation_deg: float = 0.0,
    stretch: tuple[float, float] = (1.0, 1.0),
    deformation_px: float = 1.5,
    turnover: float = 0.15,
    activity: float = 0.3,
    neuropil: float = 0.2,
    photons: float = 500.0,
    blur_px: float = 0.5,
    other_depth: bool = False,
    seed: int = 0,
) -> SimulatedPair:
    """Simulate the averages of two recordings of one field of view, days apart.

    Parameters
    ----------
    shape : (int, int)
        (H, W).
    shift_px : (float, float)
        Of the second recording's content, along x and y.
    rotation_deg : float
        Of the second recording against the first, in degrees.
    stretch : (float, float)
        How much larger the second recording shows the tissue, along x and y.
    deformation_px : float
        Largest component of the smooth change beyond that.
    turnover : float
        Share of the cells that is missing from each recording.
    activity : float
        How differently the others shine: standard deviation of the logarithm of their brightness.
    neuropil : float
        Share of the neuropil, 0 to 1, that looks otherwise.
    photons : float
        Mean photons per pixel of a whole average.
    blur_px : float
        Standard deviation of the Gaussian by which what is left of a recording's motion blurs its average.
    other_depth : bool
        The second recording shows another plane: vessels and illumination are the same, all else is not.
    seed : int
        Same seed, same pair.

    Returns
    -------
    SimulatedPair

    Raises
    ------
    ValueError
        A size or amount is negative, or the images smaller than 32 x 32.
    """
    if min(shape) < 32 or min(stretch) <= 0 or photons <= 0 or not 0 <= turnover < 1 or not 0 <= neuropil <= 1:
        raise ValueError(
            f"shape {shape}, stretch {stretch}, photons {photons}, turnover {turnover}, neuropil {neuropil}: "
            "expected at least 32 x 32, positive, positive, within [0, 1), and within [0, 1]"
        )
    rng = np.random.default_rng(seed)
    angle = np.deg2rad(rotation_deg)
    forward = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag(stretch)
    backward = np.linalg.inv(forward)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    x, y = columns - (shape[1] - 1) / 2 - shift_px[0], rows - (shape[0] - 1) / 2 - shift_px[1]
    where = np.stack([x, y], axis=-1) @ backward.T
    sampling = (where - np.stack([columns - (shape[1] - 1) / 2, rows - (shape[0] - 1) / 2], axis=-1)).astype(np.float32)
    sampling += bending(shape, 1, deformation_px, rng)[0]

    scene = Scene(shape, int(np.ceil(np.abs(sampling).max())) + SPLINE_BORDER, rng)
    later = scene.at_another_depth(rng) if other_depth else scene.on_another_day(neuropil, rng)
    averages = []
    for plane, moved in ((scene, np.zeros_like(sampling)), (later, sampling)):
        present = np.flatnonzero(rng.random(len(plane.patches)) >= turnover)
        light = plane.sample(plane.at_rest(present, rng.lognormal(0, activity, len(present))), moved)
        light = ndimage.gaussian_filter(np.maximum(light, 0), blur_px)
        counts = rng.poisson(light * (photons / light.mean())) / photons
        averages.append((1000 * rng.uniform(0.6, 1.6) * counts + 200).astype(np.float32))
    return SimulatedPair(*averages, invert(sampling))
