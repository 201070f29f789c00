"""Several references, for a recording that drifts between states, such as two depths or lights.

1. The first reference is the one of every recording, and says where everything lies. Short stretches from all over the
   recording are registered to it.
2. The stretches are sorted into groups by what they look like: k-means of correlations. A group starts from the first
   reference, the others each from the stretch that resembles the groups so far least. A group of too few frames, or
   whose stretches do not resemble each other clearly more than other groups, is no state, and its place is free.
3. The frames of a group are registered among themselves, as those of any reference, and their mean to the first
   reference. From there on all references lie in one frame.
4. Each frame is registered to the first reference, compared with all of them, and registered to the one that it
   resembles most, where that is another.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from pyflow.align.between import Flow, align, reference_like
from pyflow.flow.filters import resize
from pyflow.flow.warp import imregister
from pyflow.motion.frames import FrameSource, spread
from pyflow.motion.options import OFOptions
from pyflow.motion.preprocess import Preprocessor
from pyflow.motion.quality import Misfit
from pyflow.motion.reference import build_reference
from pyflow.motion.register import FrameEstimate, FrameRegistration, RegisteredFrame, counted_channels
from pyflow.motion.streams import ordered_map
from pyflow.threads import resolve_threads

logger = logging.getLogger(__name__)

_STRETCHES = 80
_STRETCH_FRAMES = 5  # whose mean shows a state through the noise of single frames
_REDUCTION = 4  # as for a frame's misfit
_CLEARLY_MORE = 0.02  # correlation
_ROUNDS = 20  # of k-means, which ends sooner


def find_others(source: FrameSource, first: np.ndarray, options: OFOptions) -> np.ndarray:
    """Find the further references of a recording.

    Parameters
    ----------
    source
        The recording.
    first
        Its raw reference (H, W, C).
    options
        `n_references` and `min_frames_per_reference`, and how to compute flows.

    Returns
    -------
    ndarray
        float64 (n, H, W, C), raw and in the frame of the first; n is less than asked for where the recording does not
        have as many states.
    """
    stretches = _stretches(len(source))
    shown = _looks(source, stretches, first, options)
    stretches = [stretch for stretch, image in zip(stretches, shown, strict=True) if image is not None]
    groups = _groups(
        _features([_reduced(first), *(image for image in shown if image is not None)]),
        options.n_references,
        -(-options.min_frames_per_reference // _STRETCH_FRAMES),
    )
    others = []
    for group in groups:
        frames = [t for member in group for t in stretches[member]]
        own = build_reference(replace(source, indices=frames), options)
        flow = Flow(
            backend=options.flow_backend,
            backend_params=options.backend_params,
            n_threads=resolve_threads(options.n_workers),
        )
        w = align(first, own, flow).displacement_px
        others.append(imregister(own, w, fill=reference_like(first, own), n_threads=flow.n_threads))
        logger.info("another reference is the mean of %d frames between %d and %d", len(frames), frames[0], frames[-1])
    if len(others) + 1 < options.n_references:
        logger.warning(
            "%d references were asked for, %d found: no other group of %d frames looks different",
            *(options.n_references, len(others) + 1, options.min_frames_per_reference),
        )
    return np.array(others, float).reshape(-1, *first.shape)


def _stretches(n_frames: int) -> list[range]:
    """Return successive frames from all over a recording."""
    count = min(_STRETCHES, max(1, n_frames // _STRETCH_FRAMES))
    starts = spread(max(n_frames - _STRETCH_FRAMES + 1, 1), count).tolist()
    return [range(start, min(start + _STRETCH_FRAMES, n_frames)) for start in starts]


def _looks(
    source: FrameSource, stretches: list[range], first: np.ndarray, options: OFOptions
) -> list[np.ndarray | None]:
    """Return each stretch's mean, registered to the first reference and reduced; None of frames without an image."""
    preprocess = Preprocessor(first, options.in_space_only(), source.dtype)
    register = FrameRegistration.onto(first, preprocess, options)

    def look(frames: np.ndarray) -> np.ndarray | None:
        results = [register.alone([frame]) for frame in frames]
        images = [_reduced(result.frame) for result in results if not result.problem]
        return np.mean(images, axis=0) if images else None

    n_threads = resolve_threads(options.n_workers)
    pieces = (source.read(stretch.start, stretch.stop) for stretch in stretches)
    with ThreadPoolExecutor(n_threads) as pool:
        return list(ordered_map(pool, look, pieces, 2 * n_threads))


def _reduced(image: np.ndarray) -> np.ndarray:
    return resize(image, tuple(max(1, side // _REDUCTION) for side in image.shape[:2]), n_threads=1)


def _features(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return images as rows whose products are correlations."""
    rows = np.stack([(image - image.mean(axis=(0, 1))).ravel() for image in images]).astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _groups(features: np.ndarray, n_groups: int, least: int) -> list[list[int]]:
    """Sort features into groups.

    Parameters
    ----------
    features
        (1 + n, d), rows of norm 1: the first reference's, which is the fixed centre of a group, and the stretches'.
    n_groups
        Of them, with the first reference's.
    least
        Stretches that a group has.

    Returns
    -------
    list of list of int
        Stretches, counted from 0, of each group but the first reference's.
    """
    first, stretches = features[0], features[1:]
    eligible = np.ones(len(stretches), bool)
    centers, found = [first], []
    while len(centers) < n_groups and eligible.any():
        alike = (stretches @ np.stack(centers).T).max(axis=1)
        seed = np.flatnonzero(eligible)[alike[eligible].argmin()]
        trial = _settled(stretches, [*centers, stretches[seed]])
        groups, strays = _members(stretches, trial, least)
        if all(len(group) for group in groups):
            centers, found = trial, groups
            continue
        eligible[[seed, *strays]] = False  # nothing that lasts
    return found


def _members(stretches: np.ndarray, centers: list[np.ndarray], least: int) -> tuple[list[list[int]], list[int]]:
    """Return the stretches of each group but the first, none of one that is no state, and those of such groups.

    What a stretch adds to its own group is left out where it is compared with it. A state's stretches resemble each
    other clearly more than any other reference; halves of one state, and artefacts, do not.
    """
    nearest = _nearest(stretches, centers)
    groups, strays = [], []
    for group in range(1, len(centers)):
        members = np.flatnonzero(nearest == group)
        own = stretches[members]
        rest = own.sum(axis=0) - own
        alike = (own * rest).sum(axis=1) / np.maximum(np.linalg.norm(rest, axis=1), np.finfo(float).tiny)
        elsewhere = (own @ np.stack(centers[:group] + centers[group + 1 :]).T).max(axis=1)
        belongs = alike >= np.maximum(elsewhere, np.median(alike) / 2 if len(members) else 0)
        if np.count_nonzero(belongs) >= least and (alike - elsewhere).mean() > _CLEARLY_MORE:
            groups.append(members[belongs].tolist())
        else:
            groups.append([])
            strays += members.tolist()
    return groups, strays


def _settled(stretches: np.ndarray, centers: list[np.ndarray]) -> list[np.ndarray]:
    """Move centres, but for the first, to the means of the stretches that are nearest to them."""
    before = None
    for _ in range(_ROUNDS):
        members = _nearest(stretches, centers)
        if before is not None and (members == before).all():
            break
        before = members
        for group in range(1, len(centers)):
            if (members == group).any():
                mean = stretches[members == group].mean(axis=0)
                centers[group] = mean / np.linalg.norm(mean)
    return centers


def _nearest(stretches: np.ndarray, centers: list[np.ndarray]) -> np.ndarray:
    return (stretches @ np.stack(centers).T).argmax(axis=1)


def registration(
    template: np.ndarray,
    references: Sequence[np.ndarray],
    preprocess: Preprocessor,
    options: OFOptions,
    dtype: np.dtype,
    noise_px: float = 0.0,
    misfit_limit: float | None = np.inf,
) -> "FrameRegistration | StateRegistration":
    """Return what registers frames to one reference, or each to the best of several.

    Parameters
    ----------
    template
        The first reference, preprocessed.
    references
        Raw, (H, W, C) each, all in the frame of the first.
    preprocess, options, dtype, noise_px, misfit_limit
        See `FrameRegistration`.
    """
    templates = [template, *(preprocess.image(reference) for reference in references[1:])]
    each = [
        FrameRegistration(image, reference, preprocess, options, dtype, noise_px, misfit_limit)
        for image, reference in zip(templates, references, strict=True)
    ]
    return each[0] if len(each) == 1 else StateRegistration(each, references, options)


class StateRegistration:
    """Registers each frame to the one of several references that it resembles most; used as `FrameRegistration` is.

    Parameters
    ----------
    each
        Registers to one reference; the first decides which one a frame resembles most.
    references
        Raw, (H, W, C) each.
    options
        Which channels count.
    """

    def __init__(self, each: Sequence[FrameRegistration], references: Sequence[np.ndarray], options: OFOptions) -> None:
        self._each = each
        self._counted = counted_channels(options.channel_weights(references[0].shape))
        self._misfits = [Misfit(reference[..., self._counted]) for reference in references]

    def start(self, uv: np.ndarray) -> list[Any]:
        """See `FrameRegistration.start`."""
        return [register.start(uv) for register in self._each]

    @property
    def radius(self) -> int:
        """See `FrameRegistration.radius`."""
        return self._each[0].radius

    def estimate(self, window: Sequence[np.ndarray], start: Any = None) -> FrameEstimate:
        """See `FrameRegistration.estimate`."""
        starts = [None] * len(self._each) if start is None else start
        estimate = self._each[0].estimate(window, starts[0])
        if estimate.problem:
            return estimate
        best = self._most_alike(estimate)
        return replace(self._each[best].estimate(window, starts[best]), reference=best) if best else estimate

    def _most_alike(self, estimate: FrameEstimate) -> int:
        found = self._each[0].warp(estimate.frame, estimate.field, None)
        return int(np.argmin([misfit(found.image[..., self._counted], found.valid) for misfit in self._misfits]))

    def finish(self, estimates: Sequence[FrameEstimate | None]) -> RegisteredFrame:
        """See `FrameRegistration.finish`."""
        reference = estimates[len(estimates) // 2].reference
        return replace(self._each[reference].finish(estimates), reference=reference)

    def alone(self, window: Sequence[np.ndarray]) -> RegisteredFrame:
        """See `FrameRegistration.alone`."""
        return self.finish([self.estimate(window)])
