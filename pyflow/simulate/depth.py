"""A recording whose focus drifts, and a stack of the same tissue."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from pyflow._help import short_repr
from pyflow.simulate.movement import Conditions, margin_of, motion_of, scaled
from pyflow.simulate.recording import SimulatedRecording, record
from pyflow.simulate.scene import Scene, Tissue


@short_repr
@dataclass(frozen=True)
class SimulatedDepth:
    """A recording whose focus moves along z, and a stack of the same tissue.

    Attributes
    ----------
    recording : SimulatedRecording
        Its `template` is the scene at the mean depth.
    stack : ndarray, shape (Z, H, W), uint16
        Planes at depths 0, 1 ... Z - 1, each shifted a little against the others, with little noise.
    depth : ndarray, shape (T,), float64
        True depth of each frame, in planes.
    """

    recording: SimulatedRecording
    stack: np.ndarray
    depth: np.ndarray


def simulate_depth(
    shape: tuple[int, int] = (128, 128),
    n_frames: int = 100,
    n_planes: int = 5,
    *,
    drift_planes: float = 1.5,
    seed: int = 0,
    **conditions: Any,
) -> SimulatedDepth:
    """Simulate a recording whose focus drifts through tissue, and a stack of that tissue.

    Vessels and light are the same at all depths; somata, processes and texture change from plane to plane.

    Parameters
    ----------
    shape, n_frames, **conditions
        Of the recording, see `Conditions`.
    n_planes : int
        Planes of the stack, one unit of depth apart.
    drift_planes : float
        Difference between the largest and the smallest depth, around the middle of the stack.
    seed : int
        Same seed, same recording and stack.

    Returns
    -------
    SimulatedDepth

    Raises
    ------
    ValueError
        A size or amount is negative, or the frame smaller than 32 x 32.
    TypeError
        There is no such condition.
    """
    taken = Conditions(shape, n_frames, **conditions)
    if n_planes < 1 or drift_planes < 0:
        raise ValueError(f"n_planes {n_planes}, drift_planes {drift_planes}: expected at least 1, and not negative")
    rng = np.random.default_rng(seed)
    scene = Scene(shape, margin_of(taken, 3.0), rng)
    tissue = Tissue(scene, n_planes, rng)
    still = np.zeros((*shape, 2), np.float32)
    stack = np.empty((n_planes, *shape), np.uint16)
    for z in range(n_planes):
        light = scene.sample(tissue.at(z), still + rng.uniform(-2, 2, 2).astype(np.float32))
        counts = rng.poisson(np.maximum(400 / light.mean() * light, 0))  # as the mean of many frames
        stack[z] = np.clip(np.rint(counts + 200), 0, 65535)
    walk = ndimage.gaussian_filter1d(rng.standard_normal(n_frames).cumsum(), max(1.0, n_frames / 20))
    depth = (n_planes - 1) / 2 + scaled(walk - (walk.max() + walk.min()) / 2, drift_planes / 2)
    motion = motion_of(taken, rng)
    present = np.arange(len(scene.patches))
    return SimulatedDepth(record(scene, still, present, motion, taken, 1.0, rng, tissue, depth), stack, depth)
