"""What a recording itself tells before it is registered.

That is how smooth the flow should be (``alpha="auto"``), and how much noise is left in it then.

The even and the odd rows of a frame show the same motion through independent noise. So the displacement found in the
ones is judged by how well it registers the others: fitting noise does not help there, missing motion does harm.

1. Some frames are parted into the two; missing rows are interpolated. Each half is registered with a series of alphas,
   from finding everything to finding next to nothing. Where neighbouring rows share their noise (the recording was
   interpolated or smoothed before), two successive frames, with nearly the same motion, take the place of the halves.
2. The other half is warped by what was found and multiplied with the template's fine structure. In this covariance
   noise has no expectation, other than in a squared difference, which interpolation lowers by blurring the noise.
3. The covariance is largest at the alpha looked for: the peak of a parabola over log alpha through the means. From the
   largest alpha on, smaller ones are tried until two are worse than the best.
4. The difference between the deformations found in the two halves is their noise. Successive frames do not tell it:
   they also differ by motion.
"""

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from pyflow.flow.filters import gaussian_filter
from pyflow.motion.coherence import deformation
from pyflow.motion.frames import FrameSource
from pyflow.motion.options import OFOptions
from pyflow.motion.preprocess import Preprocessor
from pyflow.motion.quality import frame_problem
from pyflow.motion.register import FrameRegistration
from pyflow.threads import resolve_threads

logger = logging.getLogger(__name__)

START_ALPHA = 60.0
"""What photon-limited recordings of a moving brain typically need."""

_ALPHAS = np.geomspace(1.5, 400, 7)
_FRAMES = 12
_FINE_STRUCTURE = 4.0  # pixels: what is larger says little about displacements of a pixel
_MIN_LEVEL = 2  # the best alpha is nearly the same on all levels of the toolbox; this one tells well at little cost
_COHERENT = 0.75  # where neighbours take noise away, each frame's flow may be this much less smooth
_WHITE = 0.85  # power along columns at the highest frequencies by that at lower ones; after linear interpolation 0.05


@dataclass(frozen=True)
class Tuning:
    """What the noise decides.

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
    found = options.alpha == "auto"
    alphas = _ALPHAS if found else [options.alpha]
    scores, noise = _scores(source, reference, preprocess, options, alphas)
    if not scores.size:
        alpha = START_ALPHA if found else options.alpha
        logger.info("alpha is %s: no frame resembles the reference", alpha)
        return alpha, 0.0
    if not found:
        return options.alpha, float(noise[0])
    best = _peak(scores)
    noise_px = float(np.interp(math.log(best), np.log(alphas), noise))
    alpha = _two_digits(best * _COHERENT if options.coherent and noise_px else best)
    left = f"{noise_px:.2g} px" if noise_px else "not known"
    logger.info("alpha is %g, found from the recording; noise of a frame's flow: %s", alpha, left)
    return alpha, noise_px


def _scores(
    source: FrameSource, reference: np.ndarray, preprocess: Preprocessor, options: OFOptions, alphas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How well images of pairs register each other, at most 1, and noise in pixels, both (alphas,) or empty."""
    level = {} if options.scheduled else {"min_level": _MIN_LEVEL}
    options = options.replace(update_reference=False, **level)
    template = preprocess.image(reference)
    structure = template - gaussian_filter(template, _FINE_STRUCTURE)
    pairs, are_halves = _pairs(source)
    prepared = [[preprocess.image(image) for image in pair] for pair in pairs]
    scores, noise = np.zeros((len(alphas), 2 * len(pairs))), np.zeros(len(alphas))
    with ThreadPoolExecutor(resolve_threads(options.n_workers)) as pool:
        for k in reversed(range(len(alphas))):
            tried = scores[k + 1 :].sum(axis=1)
            if len(tried) > 2 and tried.argmax() >= 2:
                break  # past the peak; small alphas take longest, as their flows need many unknowns
            register = FrameRegistration(
                template, reference, preprocess, options.with_alpha(alphas[k]), np.dtype(np.float32)
            )

            def covariance(
                pair: int, own: int, other: int, register: FrameRegistration = register
            ) -> tuple[float, np.ndarray]:
                w = register.estimate([pairs[pair][own]]).displacement
                return float((register.warp(prepared[pair][other], w, None) * structure).sum()), deformation(w)

            both_ways = [(pair, *way) for pair in range(len(pairs)) for way in ((0, 1), (1, 0))]
            results = list(pool.map(lambda which, covariance=covariance: covariance(*which), both_ways))
            scores[k] = [score for score, _ in results]
            # the difference has the variance of both, and each twice that of a whole frame
            variances = [np.mean((a - b) ** 2) / 4 for (_, a), (_, b) in zip(results[::2], results[1::2], strict=True)]
            noise[k] = np.sqrt(np.median(variances)) if are_halves else 0.0
    scores = scores[:, (scores > 0).any(axis=0)]
    if not scores.size:
        return np.zeros(0), np.zeros(0)
    # where the brain jerks, a frame's motion is not its neighbour's
    centre = np.mean if are_halves else np.median
    return centre(scores / scores.max(axis=0), axis=1), noise


def _pairs(source: FrameSource) -> tuple[list[list[np.ndarray]], bool]:
    """Pairs of images (H, W, C) with nearly the same motion and halves noise; whether they are halves of a frame.

    Only halves have exactly the same motion, so that they differ by noise alone.
    """
    frames = source.usable(_FRAMES)
    if frames and _white_along_columns(frames):
        return [even_and_odd_rows(frame) for frame in frames], True
    starts = np.unique(np.linspace(0, max(len(source) - 2, 0), _FRAMES).round().astype(int))
    pairs = [source.read(start, start + 2) for start in starts]
    return [list(pair) for pair in pairs if len(pair) == 2 and not any(frame_problem(frame) for frame in pair)], False


def _white_along_columns(frames: list[np.ndarray]) -> bool:
    """Whether the noise of neighbouring rows is independent: the finest frequencies show hardly anything else."""
    columns = np.stack(frames).astype(np.float64)
    columns -= columns.mean(axis=1, keepdims=True)
    power = (np.abs(np.fft.rfft(columns, axis=1)) ** 2).mean(axis=(0, 2, 3))
    frequency = np.fft.rfftfreq(columns.shape[1])
    finest, lower = power[frequency >= 0.45].mean(), power[(frequency >= 0.3) & (frequency <= 0.4)].mean()
    return bool(finest >= _WHITE * lower)


def even_and_odd_rows(frame: np.ndarray) -> list[np.ndarray]:
    """The even and the odd rows of a frame, each interpolated to the whole frame, float32."""
    frame = frame.astype(np.float32)
    above, below = np.concatenate([frame[1:2], frame[:-1]]), np.concatenate([frame[1:], frame[-2:-1]])
    between = (above + below) / 2
    even = np.arange(len(frame)) % 2 == 0
    even = even[:, np.newaxis, np.newaxis]
    return [np.where(even, frame, between), np.where(even, between, frame)]


def _peak(scores: np.ndarray) -> float:
    """Where the parabola through the best score and its neighbours peaks."""
    best = int(scores.argmax())
    position = float(best)
    if 0 < best < len(scores) - 1:
        left, top, right = scores[best - 1 : best + 2]
        curvature = left - 2 * top + right
        position += 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return float(np.exp(np.interp(position, np.arange(len(_ALPHAS)), np.log(_ALPHAS))))


def _two_digits(value: float) -> float:
    return round(value, 1 - math.floor(math.log10(value)))
