"""The displacement between two averages of one tissue, days apart.

1. Start from the map that the evidence supports (`pyflow.align.start`).
2. Warp the moving average by what is known so far, reduce both to their structure, and let the flow find what is left.
3. Repeat while that is worth it. A smooth flow finds little of a deformation that is not smooth, but never something
   that the images do not show; repeated, it finds more each time, for as long as there is more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyflow.align.start import Map, find_start
from pyflow.align.structure import COARSE, auto_smoothing, live_box, structure
from pyflow.flow.displacement import get_displacement
from pyflow.flow.warp import imregister

AUTO_ALPHA = 100.0
"""Smoothness weight of one round where none is given. Of several rounds the field is less smooth, see `MOST_ROUNDS`."""

MOST_ROUNDS = 4

_ROUND_WORTH_PX = 0.1  # mean length of what a round found for another one to follow
_GREY = 1 / 6  # the structure's -3 to 3 as grey values of order 1


@dataclass(frozen=True)
class Flow:
    """How the flow between averages is computed; None: found from the averages."""

    smoothing: float | None = None
    alpha: float | None = None
    iterations: int = 100
    const_assumption: str = "gc"
    backend: str = "flowreg"
    backend_params: Mapping[str, Any] | None = None
    n_threads: int = 1


@dataclass(frozen=True)
class Alignment:
    """What was found between two averages, and how.

    Parameters
    ----------
    displacement_px
        (H, W, 2) float32, backward: ``reference(y, x)`` looks like ``moving(y + v, x + u)``.
    start
        The map it started from.
    smoothing_px, alpha, rounds
        Of the flow.
    """

    displacement_px: np.ndarray
    start: Map
    smoothing_px: float
    alpha: float
    rounds: int


def align(reference: np.ndarray, moving: np.ndarray, flow: Flow) -> Alignment:
    """Find the displacement between two averages.

    Parameters
    ----------
    reference, moving
        (H, W) or (H, W, C) of one shape, finite.
    flow
        How the flow is computed.

    Returns
    -------
    Alignment
        Without displacement where an average has no structure.

    Raises
    ------
    ValueError
        The flow's parameters are out of range, or its back end is unknown.
    """
    shape, box = reference.shape[:2], live_box(reference, moving)
    inner = _align(reference[box], moving[box], flow)
    if inner.displacement_px.shape[:2] == shape:
        return inner
    outer = inner.start.seen_from(shape, box, inside=True)
    # around what is alive the start goes on, and what the flow found beyond it is that of the nearest pixel
    more = inner.displacement_px - inner.start.field(inner.displacement_px.shape[:2])
    around = [(side.start, size - side.stop) for side, size in zip(box, shape, strict=True)]
    w = outer.field(shape) + np.pad(more, (*around, (0, 0)), mode="edge")
    return replace(inner, displacement_px=w, start=outer)


def _align(reference: np.ndarray, moving: np.ndarray, flow: Flow) -> Alignment:
    reference, moving = comparable(reference, moving)
    if not reference.size:
        nothing = Map(np.eye(2), np.zeros(2))
        return Alignment(nothing.field(reference.shape[:2]), nothing, 0.0, 0.0, 0)
    start = find_start(reference, moving)
    smoothing = auto_smoothing(reference, moving) if flow.smoothing is None else flow.smoothing
    alpha = AUTO_ALPHA if flow.alpha is None else flow.alpha
    w, rounds = start.field(reference.shape[:2]), 0
    while rounds < MOST_ROUNDS:
        more = one_round(reference, moving, w, smoothing, alpha, flow, const_assumption=flow.const_assumption)
        w, rounds = composed(w, more), rounds + 1
        if np.linalg.norm(more, axis=-1).mean() < _ROUND_WORTH_PX:
            break
    return Alignment(w, start, smoothing, alpha, rounds)


def comparable(reference: np.ndarray, moving: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two images (H, W) or (H, W, C) as float32 (H, W, c), with the c channels in which both have structure."""
    images = [np.asarray(image, np.float32).reshape(*image.shape[:2], -1) for image in (reference, moving)]
    alive = np.logical_and(*(structure(image, 0.0).any(axis=(0, 1)) for image in images))
    return images[0][..., alive], images[1][..., alive]


def one_round(
    reference: np.ndarray,
    moving: np.ndarray,
    w: np.ndarray,
    smoothing: float,
    alpha: float,
    flow: Flow,
    *,
    const_assumption: str = "gc",
    weight: np.ndarray | None = None,
    grid_spacing: int = 1,
) -> np.ndarray:
    """Return the flow (H, W, 2) between the reference and the moving image warped by `w`, in pixels.

    What is assumed constant is the caller's: the proofs of `pyflow.align.trust` keep to the one they were tried with.
    """
    # what comes from outside looks like the reference, so that nothing pulls there
    warped = imregister(moving, w, fill=reference_like(reference, moving), n_threads=flow.n_threads)
    local = max(COARSE, 3 * smoothing)
    images = [_GREY * structure(image, smoothing, local) for image in (reference, warped)]
    return get_displacement(
        *images,
        alpha=alpha,
        iterations=flow.iterations,
        const_assumption=const_assumption,
        weight=weight,
        grid_spacing=grid_spacing,
        n_threads=flow.n_threads,
        backend=flow.backend,
        backend_params=flow.backend_params,
    )


def reference_like(reference: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Return the reference with each channel's mean and standard deviation of the moving image."""
    axes = (0, 1)
    deviation = reference.std(axes)
    gain = np.where(deviation > 0, moving.std(axes) / np.where(deviation > 0, deviation, 1), 0)
    return ((reference - reference.mean(axes)) * gain + moving.mean(axes)).astype(np.float32)


def composed(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Return the displacement of an image that is warped by `first`, and what comes of that by `then`.

    Parameters
    ----------
    first, then
        (H, W, 2) float32, pixels, backward.

    Returns
    -------
    ndarray
        ``first(q + then(q)) + then(q)``; beyond the image the first goes on as at the nearest pixel.
    """
    rows, columns = np.mgrid[: then.shape[0], : then.shape[1]].astype(np.float32)
    # the nearest pixel inside: `imregister` fills what is outside
    u = np.clip(columns + then[..., 0], 0, then.shape[1] - 1) - columns
    v = np.clip(rows + then[..., 1], 0, then.shape[0] - 1) - rows
    return imregister(first, np.stack([u, v], axis=-1), interpolation="linear", n_threads=1) + then
