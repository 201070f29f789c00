"""Settle what has to be known of a recording before its first frame is registered.

1. The recording is checked against the options, and lines are found out of step.
2. The reference is found, raw, and from the recording's noise how smooth the flow should be; further references, where
   it drifts between states.
3. Some frames tell which misfit is usual.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from pyflow.io import VideoReader
from pyflow.motion.frames import FrameSource
from pyflow.motion.lines import LINE_FRAMES, line_shift
from pyflow.motion.noise import START_ALPHA, Tuning, tune
from pyflow.motion.options import OFOptions
from pyflow.motion.preprocess import Preprocessor
from pyflow.motion.quality import LEAST_FRAMES, misfit_limit
from pyflow.motion.reference import as_reference, find_reference
from pyflow.motion.refinement import refined_reference
from pyflow.motion.state import LoopState
from pyflow.motion.states import find_others, registration
from pyflow.threads import resolve_threads

logger = logging.getLogger(__name__)

_MISFIT_FRAMES = 24  # tell what misfit is usual

_OTHER_ALPHA = 4.0  # a reference built with an alpha off by this factor is built again


def checked_source(reader: VideoReader | np.ndarray, options: OFOptions, name: str) -> FrameSource:
    """Check a recording against the options and wrap it for the loop.

    Parameters
    ----------
    reader
        The recording, or its frames (T, H, W, C).
    options
        Which channels, and how frames are binned and lines moved.
    name
        How messages call the recording.

    Raises
    ------
    ValueError
        It does not hold real numbers, or has fewer channels than `OFOptions.channel_idx` asks for.
    """
    if reader.dtype.kind not in "uif":
        raise ValueError(f"{name} has dtype {reader.dtype}, expected an integer or floating type")
    n_channels = reader.shape[3]
    if options.channel_idx is not None and max(options.channel_idx) >= n_channels:
        raise ValueError(f"channel_idx {options.channel_idx}: {name} has {n_channels} channels, counted from 0")
    source = FrameSource(reader, options.channel_idx, options.bin_size)
    if options.bidiphase != "auto":
        return replace(source, line_shift=options.bidiphase)
    shift = line_shift(replace(source, bin_size=1).usable(LINE_FRAMES))
    logger.info("%s: odd lines are moved by %d pixels (bidiphase)", name, shift)
    return replace(source, line_shift=shift)


def output_dtype(source: FrameSource, options: OFOptions) -> np.dtype:
    """Return the data type of registered frames."""
    return np.dtype(options.output_typename or source.reader.dtype)


def first_state(source: FrameSource, options: OFOptions, reference: np.ndarray | None) -> LoopState:
    """Find the reference, alpha and the usual misfit; return the state before the first frame.

    Parameters
    ----------
    source
        The recording.
    options
        How to register it.
    reference
        Raw image (H, W) or (H, W, C) to register to; None: as `OFOptions.reference_frames` says.

    Raises
    ------
    ValueError
        The reference does not match the recording, or no frame can be used as reference.
    OSError
        The reference cannot be read.
    """
    raw, tuning = _settle(source, options, reference)
    known = options.with_alpha(tuning.alpha)
    others = find_others(source, raw, known) if options.n_references > 1 else None
    limit = _misfit_limit(source, [raw] if others is None else [raw, *others], known)
    template = Preprocessor(raw, options, source.dtype).image(raw)
    return LoopState.begin(raw, template, tuning, limit, others)


def _settle(source: FrameSource, options: OFOptions, reference: np.ndarray | None) -> tuple[np.ndarray, Tuning]:
    """Find the reference, and what the noise decides.

    Without a given alpha the reference is built with a typical one; where the recording asks for a very different one,
    again with that. A reference that was given is sharpened where the recording says that this helps.
    """

    def find(alpha: float | tuple[float, float]) -> np.ndarray:
        known = options.with_alpha(alpha)
        return find_reference(source, known) if reference is None else as_reference(reference, source.frame_shape)

    raw = find(START_ALPHA if options.alpha == "auto" else options.alpha)
    tuning = tune(source, raw, options)
    if options.alpha == "auto" and (reference is not None or options.gives_reference):
        return refined_reference(source, raw, tuning, options)
    if options.alpha == "auto" and not 1 / _OTHER_ALPHA < tuning.alpha / START_ALPHA < _OTHER_ALPHA:
        logger.info("the reference is made again, with that alpha, and the recording is asked again")
        raw = find(tuning.alpha)
        tuning = tune(source, raw, options)
    return raw, tuning


def _misfit_limit(source: FrameSource, references: Sequence[np.ndarray], options: OFOptions) -> float:
    """Register some frames, one by one, to learn what misfit is usual in a recording."""
    frames = source.usable(_MISFIT_FRAMES)
    if len(frames) < LEAST_FRAMES:
        return np.inf
    preprocess = Preprocessor(references[0], options.in_space_only(), source.dtype)
    register = registration(preprocess.image(references[0]), references, preprocess, options, np.dtype(np.float32))
    with ThreadPoolExecutor(resolve_threads(options.n_workers)) as pool:
        results = pool.map(lambda frame: register.alone([frame]), frames)
        return misfit_limit(np.array([result.statistics[-1] for result in results if not result.problem]))
