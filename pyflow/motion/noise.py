"""Find from a recording how smooth its flow should be (``alpha="auto"``), and how much noise is left in it then.

Two successive frames show nearly the same deformation of the tissue through independent noise, whatever shook the
field of view as a whole in between (see `pyflow.motion.coherence`). So the deformation found in the one is judged by
how well it registers the other: fitting noise does not help there, missing motion does harm. Pixels may share their
noise.

1. Both frames of some pairs are registered with a series of alphas, from the largest on, which finds next to nothing,
   until two are worse than the best. Then each is warped by its own displacement, but the other's deformation, and
   multiplied with the template's fine structure. In this covariance noise has no expectation, other than in a squared
   difference, which interpolation lowers by blurring the noise. Structure counts by its share of what is around it:
   else a few bright cells, to which a flow with small alpha holds well, decide for all that is dim.
   What the deformations of all frames have in common is left as the largest alpha finds it. It only says where the
   template lies, and small alphas spread bright structures in all frames alike, which adds to the covariance.
2. The covariance is largest at the alpha looked for: the peak of a parabola over log alpha through the medians; where
   the brain jerks, some pairs mislead.
3. The even and the odd rows of a frame show exactly the same motion, each with noise of its own unless the recording
   was interpolated or smoothed before. Missing rows are interpolated, and the difference between the deformations that
   are found in the two halves is their noise. Successive frames do not tell it: they also differ by motion.
"""

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pyflow.flow.filters import enlarge_field, gaussian_filter
from pyflow.motion.coherence import deformation
from pyflow.motion.frames import FrameSource, spread
from pyflow.motion.options import OFOptions
from pyflow.motion.preprocess import Preprocessor
from pyflow.motion.quality import frame_problem
from pyflow.motion.register import FrameRegistration, counted_channels
from pyflow.threads import resolve_threads

logger = logging.getLogger(__name__)

START_ALPHA = 60.0
"""What photon-limited recordings of a moving brain typically need."""

_ALPHAS = np.geomspace(1.5, 400, 7)
_PAIRS = 12
_PIXELS = 1 << 16  # where frames have fewer, it takes more of them to tell as much: up to so many times
_MORE = 4
_FRAMES = 12
FINE_STRUCTURE = 4.0  # pixels: what is larger says little about displacements of a pixel
_AROUND = 2 * FINE_STRUCTURE  # pixels
_LEAST_ENERGY = 0.25  # of the mean
_QUALITY = "balanced"  # the best alpha is nearly the same for all schedules; this one tells well at little cost
_MIN_LEVEL = 2  # and on all levels of the toolbox
_COHERENT = 0.65  # where neighbours take noise away, each frame's flow may be this much less smooth
_WHITE = 0.85  # power along columns at the highest frequencies by that at lower ones; after linear interpolation 0.05


@dataclass(frozen=True)
class Tuning:
    """The smoothness of a recording's flow, and the noise that is left in it.

    Parameters
    ----------
    alpha
        Smoothness weight, or one along x and one along y.
    noise_px
        Standard deviation of the error of a frame's deformation (see `pyflow.motion.coherence`), each component, in
        pixels; 0 where it is not known.
    """

    alpha: float | tuple[float, float]
    noise_px: float


def tune(source: FrameSource, reference: np.ndarray, options: OFOptions) -> Tuning:
    """Find the smoothness weight that registers the recording best, and the noise that is left.

    Parameters
    ----------
    source
        The recording.
    reference
        Raw reference (H, W, C).
    options
        How to compute the flow. An `alpha` that is given is kept.

    Returns
    -------
    Tuning
        alpha, where it is found, has two significant digits; `START_ALPHA` where no frame tells.
    """
    # frames are registered one by one, and no half may hold the other's noise
    preprocess = Preprocessor(reference, options.in_space_only(), source.dtype)
    alpha, noise_px = options.alpha, 0.0
    if alpha == "auto" or options.coherent:
        alpha, noise_px = _alpha_and_noise(source, reference, preprocess, options)
    return Tuning(alpha, noise_px)


def _alpha_and_noise(
    source: FrameSource, reference: np.ndarray, preprocess: Preprocessor, options: OFOptions
) -> tuple[float | tuple[float, float], float]:
    found, coherent = options.alpha == "auto", options.coherent
    cheap = {"quality_setting": _QUALITY} if options.scheduled else {"min_level": _MIN_LEVEL}
    options = options.replace(update_reference=False, **cheap)
    template = preprocess.image(reference)
    weight, noise_px = options.channel_weights(template.shape), 0.0

    def registration(alpha: float | tuple[float, float]) -> FrameRegistration:
        return FrameRegistration(template, reference, preprocess, options.with_alpha(alpha), np.dtype(np.float32))

    with ThreadPoolExecutor(resolve_threads(options.n_workers)) as workers:
        best = options.alpha
        if found:
            more = min(max(_PIXELS // math.prod(source.frame_shape[:2]), 1), _MORE)
            pairs = successive_pairs(source, more * _PAIRS)
            scores = _scores(pairs, template, weight, preprocess, registration, workers)
            best = _peak(scores) if scores.size else START_ALPHA
        if coherent:
            noise_px = _noise(source.usable(_FRAMES), counted_channels(weight), registration(best), workers)
    if not found:
        return best, noise_px
    if not scores.size:
        logger.info("alpha is %.3g: too few frames resemble the reference to find it", best)
        return best, noise_px
    alpha = _two_digits(best * _COHERENT if noise_px else best)
    left = f"{noise_px:.2g} px" if noise_px else "not known"
    logger.info("alpha is %g, found from the recording; noise of a frame's flow: %s", alpha, left)
    return alpha, noise_px


def pair_starts(n_frames: int, n_pairs: int = _PAIRS) -> np.ndarray:
    """Return the first frame of pairs of successive frames from all over a recording."""
    return spread(max(n_frames - 1, 1), n_pairs)


def successive_pairs(source: FrameSource, n_pairs: int = _PAIRS) -> list[np.ndarray]:
    """Read the pairs (2, H, W, C) of successive frames that hold an image."""
    pairs = [source.read(start, start + 2) for start in pair_starts(len(source), n_pairs)]
    return [pair for pair in pairs if len(pair) == 2 and not any(frame_problem(frame) for frame in pair)]


def _scores(
    pairs: list[np.ndarray],
    template: np.ndarray,
    weight: np.ndarray,
    preprocess: Preprocessor,
    registration: Callable[[float], FrameRegistration],
    workers: Executor,
) -> np.ndarray:
    """Score each of `_ALPHAS` by how well the deformation found in one frame of a pair registers the other.

    A score is the median over all frames, each of which has 1 where it is registered best. Where no frame tells
    anything there are no scores.
    """
    if not pairs:
        return np.zeros(0)
    structure = _leveled(template - gaussian_filter(template, FINE_STRUCTURE), weight)
    prepared = [preprocess.image(frame) for pair in pairs for frame in pair]
    scores, judged = np.zeros((len(_ALPHAS), len(prepared))), np.zeros(len(_ALPHAS))
    smoothest = None
    for k in reversed(range(len(_ALPHAS))):
        register = registration(_ALPHAS[k])
        fields = [field for pair in workers.map(partial(_exchanged, register), pairs) for field in pair]
        common = np.median([field - _along_lines(field) for field in fields], axis=0)
        smoothest = common if smoothest is None else smoothest
        change = enlarge_field(smoothest, common.shape[:2]) - common

        def covariance(image: np.ndarray, field: np.ndarray, register: FrameRegistration = register) -> float:
            return float((register.warp(image, field, None).image * structure).sum())

        scores[k] = list(workers.map(covariance, prepared, [field + change for field in fields]))
        told = scores[:, (scores > 0).any(axis=0)]
        if told.size:
            judged = np.median(told / told.max(axis=0), axis=1)
            if judged.argmax() > k + 1:
                break  # past the peak; small alphas take longest, as their flows need many unknowns
    return judged if judged.any() else np.zeros(0)


def registered_by_each_other(
    register: FrameRegistration, pair: np.ndarray, images: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Warp two successive frames, each by its own displacement, but the other's deformation.

    Parameters
    ----------
    register
        Finds the displacements.
    pair
        The raw frames (2, H, W, C).
    images
        What is warped: the frames, preprocessed, float32 (H, W, C) each.

    Returns
    -------
    list of ndarray
        float32 (H, W, C) each; 0 where a pixel comes from outside the frame.
    """
    return [register.warp(image, uv, None).image for image, uv in zip(images, _exchanged(register, pair), strict=True)]


def _exchanged(register: FrameRegistration, pair: np.ndarray) -> list[np.ndarray]:
    """The displacements (rows, cols, 2) of two successive frames, each with the other's deformation.

    To its finest detail: what a frame kept of its own would register its own noise.
    """
    one, other = (register.estimate([frame]).field for frame in pair)
    change = (other - _along_lines(other)) - (one - _along_lines(one))
    return [one + change, other - change]


def _along_lines(field: np.ndarray) -> np.ndarray:
    return field.mean(axis=1, keepdims=True)


def _leveled(structure: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Structure (H, W, C), weighted, by the energy around it; where there is little, noise is not made to count."""
    around = gaussian_filter((weight * structure**2).sum(axis=2, keepdims=True), _AROUND)
    return weight * structure / np.maximum(around + _LEAST_ENERGY * around.mean(), np.finfo(np.float32).tiny)


def _noise(frames: list[np.ndarray], counted: Any, register: FrameRegistration, workers: Executor) -> float:
    """Return the standard deviation in pixels of a frame's deformation's error; 0 where rows share their noise."""
    halves = [even_and_odd_rows(frame) for frame in frames]
    halves = [both for both in halves if not any(frame_problem(half) for half in both)]
    if not halves or not _white_along_columns([frame[..., counted] for frame in frames]):
        return 0.0

    def difference(both: list[np.ndarray]) -> float:
        one, other = (deformation(register.estimate([half]).field) for half in both)
        return float(np.mean((one - other) ** 2))

    # the difference has the variance of both, and each twice that of a whole frame
    return float(np.sqrt(np.median(list(workers.map(difference, halves))) / 4))


def _white_along_columns(frames: list[np.ndarray]) -> bool:
    """Tell whether the noise of neighbouring rows is independent: the finest frequencies show hardly anything else."""
    columns = np.stack(frames).astype(np.float64)
    columns -= columns.mean(axis=1, keepdims=True)
    power = (np.abs(np.fft.rfft(columns, axis=1)) ** 2).mean(axis=(0, 2, 3))
    frequency = np.fft.rfftfreq(columns.shape[1])
    finest, lower = power[frequency >= 0.45], power[(frequency >= 0.3) & (frequency <= 0.4)]
    return bool(finest.size and lower.size and finest.mean() >= _WHITE * lower.mean())


def even_and_odd_rows(frame: np.ndarray) -> list[np.ndarray]:
    """Return two frames, float32: one of the even and one of the odd rows, with the missing ones interpolated."""
    frame = frame.astype(np.float32)
    above, below = np.concatenate([frame[1:2], frame[:-1]]), np.concatenate([frame[1:], frame[-2:-1]])
    between = (above + below) / 2
    even = np.arange(len(frame)) % 2 == 0
    even = even[:, np.newaxis, np.newaxis]
    return [np.where(even, frame, between), np.where(even, between, frame)]


def _peak(scores: np.ndarray) -> float:
    """Return the alpha at which the parabola through the best score and its neighbours peaks."""
    best = int(scores.argmax())
    position = float(best)
    if 0 < best < len(scores) - 1:
        left, top, right = scores[best - 1 : best + 2]
        curvature = left - 2 * top + right
        position += 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return float(np.exp(np.interp(position, np.arange(len(_ALPHAS)), np.log(_ALPHAS))))


def _two_digits(value: float) -> float:
    return round(value, 1 - math.floor(math.log10(value)))
