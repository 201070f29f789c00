"""How smooth the flow of a recording should be, found from the recording itself (``alpha="auto"``).

Noise in two successive frames is independent, their motion is nearly the same. So the displacement found in one frame
is judged by how well it registers its neighbours: fitting noise does not help there, missing motion does harm.

1. Some frames are registered with a series of alphas, from finding everything to finding next to nothing.
2. Their neighbours are warped by what was found and multiplied with the template's fine structure. In this covariance
   noise has no expectation, other than in a squared difference, which interpolation lowers by blurring the noise.
3. The covariance is largest at the alpha looked for: the peak of a parabola over log alpha through the medians.
"""

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from pyflow.flow.filters import gaussian_filter
from pyflow.motion.frames import FrameSource, frame_problem
from pyflow.motion.options import OFOptions
from pyflow.motion.preprocess import Preprocessor
from pyflow.motion.register import FrameRegistration
from pyflow.threads import resolve_threads

logger = logging.getLogger(__name__)

START_ALPHA = 60.0
"""What photon-limited recordings of a moving brain typically need."""

_ALPHAS = np.geomspace(1.5, 400, 7)
_FRAMES = 32
_FINE_STRUCTURE = 4.0  # pixels: what is larger says little about displacements of a pixel
_MIN_LEVEL = 2  # the best alpha is nearly the same on all levels; this one tells well at little cost


def choose_alpha(source: FrameSource, reference: np.ndarray, options: OFOptions) -> float:
    """Find the smoothness weight that registers the recording best.

    Parameters
    ----------
    source
        The recording.
    reference
        Raw reference (H, W, C).
    options
        How to compute the flow; `alpha` and the finest level do not count.

    Returns
    -------
    float
        Two significant digits; `START_ALPHA` where the recording is too short to tell, or shows something else.
    """
    still = tuple((sx, sy, 0.0) for sx, sy, _ in options.sigma)  # neighbours must not share noise
    options = options.replace(sigma=still, min_level=_MIN_LEVEL, update_reference=False)
    preprocess = Preprocessor(reference, options, source.dtype)
    triples = _triples(source)
    if not triples:
        logger.info("alpha is %g: the recording is too short to find it", START_ALPHA)
        return START_ALPHA

    template = preprocess.image(reference)
    structure = template - gaussian_filter(template, _FINE_STRUCTURE)
    neighbours = [[preprocess.image(triple[k]) for k in (0, 2)] for triple in triples]

    def covariances(register: FrameRegistration, number: int) -> list[float]:
        w = register([triples[number][1]]).displacement
        return [float((register.warp(image, w, None) * structure).sum()) for image in neighbours[number]]

    found = []
    with ThreadPoolExecutor(resolve_threads(options.n_workers)) as pool:
        for alpha in _ALPHAS:
            tried = options.replace(alpha=alpha)
            register = FrameRegistration(template, reference, preprocess, tried, np.dtype(np.float32))
            found.append(list(pool.map(partial(covariances, register), range(len(triples)))))
    found = np.array(found).reshape(len(_ALPHAS), -1)
    usable = found.max(axis=0) > 0
    if not usable.any():
        logger.info("alpha is %g: the frames do not resemble the reference", START_ALPHA)
        return START_ALPHA
    # the median: where the brain jerks, a frame's motion is not its neighbours'
    scores = np.median(found[:, usable] / found[:, usable].max(axis=0), axis=1)
    alpha = _peak(scores)
    logger.info("alpha is %g, found from %d frames", alpha, len(triples))
    return alpha


def _triples(source: FrameSource) -> list[np.ndarray]:
    """Frames (3, H, W, C) that follow each other, from all over the recording."""
    centres = np.unique(np.linspace(1, len(source) - 2, _FRAMES).round().astype(int)) if len(source) > 2 else ()
    triples = [source.read(centre - 1, centre + 2) for centre in centres]
    return [triple for triple in triples if not any(frame_problem(frame) for frame in triple)]


def _peak(scores: np.ndarray) -> float:
    """Where the parabola through the best score and its neighbours peaks, rounded to two digits."""
    best = int(scores.argmax())
    position = float(best)
    if 0 < best < len(scores) - 1:
        left, top, right = scores[best - 1 : best + 2]
        curvature = left - 2 * top + right
        position += 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    alpha = float(np.exp(np.interp(position, np.arange(len(_ALPHAS)), np.log(_ALPHAS))))
    digits = 1 - math.floor(math.log10(alpha))
    return round(alpha, digits)
