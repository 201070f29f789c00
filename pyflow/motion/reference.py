"""The image that a recording is registered to."""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from pyflow.io import open_video
from pyflow.io.unpickle import load_npy
from pyflow.motion.frames import FrameSource
from pyflow.motion.options import OFOptions
from pyflow.motion.preprocess import Preprocessor
from pyflow.motion.quality import frame_problem
from pyflow.motion.register import FrameRegistration
from pyflow.motion.streams import ordered_map, windows
from pyflow.threads import resolve_threads

logger = logging.getLogger(__name__)

# Frames register among themselves with a smoother flow on smoother images than later to the reference
# (Flow-Registration). Further rounds, to what the one before made, lower jitter by 4 % at best, and a still recording
# is then found to move more.
_EXTRA_ALPHA = 2.0
_EXTRA_SIGMA = (1.0, 1.0, 0.5)

# Many frames register so at half the resolution: so blurred, images lose next to nothing there, and a smooth flow
# nothing if its unknowns stay as far apart as they are. Against a reference made at full resolution with one unknown
# per pixel, the motion found in a recording (less its median over time, which only says where the reference lies)
# changes by 0.004 to 0.014 px in the mean (simulated, 3 to 40 photons per pixel, and recorded). Of few frames each
# one counts, and time does not.
MANY_FRAMES = 200
_HALF_RESOLUTION = {"eta": 0.5, "min_level": 1, "iterations": 10}

_GLARING = 4.0  # times the usual standard deviation over a frame's pixels; cells that fire together hardly reach 2
_SAMPLED = 25  # frames that tell what is usual


def find_reference(source: FrameSource, options: OFOptions) -> np.ndarray:
    """Read or build the raw reference that `reference_frames` describes.

    Parameters
    ----------
    source
        The recording.
    options
        How.

    Returns
    -------
    ndarray
        float64 (H, W, C), grey values of the recording.

    Raises
    ------
    ValueError
        The image has another shape than the frames, or none of the frames can be used.
    OSError
        The image cannot be read.
    """
    if isinstance(options.reference_frames, np.ndarray):
        return as_reference(options.reference_frames, source.frame_shape, "reference_frames")
    if options.reference_path is not None:
        return as_reference(
            _read_image(options.reference_path, source.frame_shape),
            source.frame_shape,
            f"reference_frames: {options.reference_path}",
        )
    indices = reference_indices(options, len(source))
    chosen = replace(source, indices=indices)
    return build_reference(chosen, options)


def as_reference(image: np.ndarray, frame_shape: tuple[int, int, int], name: str = "reference") -> np.ndarray:
    """Check an image that is to be the reference and return it as float64 (H, W, C).

    Raises
    ------
    ValueError
        Its shape is not that of the frames, or its values are no real numbers; the message starts with `name`.
    """
    image = np.asarray(image)
    planes = image[..., np.newaxis] if image.ndim == 2 else image
    if planes.shape != frame_shape:
        raise ValueError(f"{name} has shape {image.shape}, the recording's frames have {frame_shape}")
    if image.dtype.kind not in "buif":
        raise ValueError(f"{name} has dtype {image.dtype}, expected an integer or floating type")
    return planes.astype(np.float64, copy=False)


def reference_indices(options: OFOptions, n_frames: int) -> list[int]:
    """Return the frames that `reference_frames` names in a recording of `n_frames`.

    Raises
    ------
    ValueError
        None of the frames is in the recording.
    """
    chosen = options.reference_slice
    if chosen is None:
        wanted = list(options.reference_frames)
        indices = [i for i in wanted if i < n_frames]
    else:
        wanted = list(range(*chosen.indices(max(n_frames, chosen.stop or 0))))
        excess = max(0, max(wanted, default=0) - n_frames + 1)
        indices = [i - excess for i in wanted if i >= excess]
    if not indices:
        raise ValueError(
            f"reference_frames {options.reference_frames!r} names none of the recording's {n_frames} frames"
        )
    if indices != wanted:
        logger.info("the recording has %d frames: the reference is made from %s", n_frames, _described(indices))
    return indices


def _described(indices: list[int]) -> str:
    return f"{len(indices)} frames between {min(indices)} and {max(indices)}"


def build_reference(source: FrameSource, options: OFOptions) -> np.ndarray:
    """Average frames after registering them to their mean.

    Frames without an image are left out, and such as light or electronics made glare: one of them outshines all others
    in the mean, to which then nothing can be registered.

    Parameters
    ----------
    source
        The frames; read twice, never held together in memory.
    options
        How to compute the flow, which is regularised more strongly than for the recording.

    Returns
    -------
    ndarray
        float64 (H, W, C).

    Raises
    ------
    ValueError
        None of the frames holds an image, or their mean is constant.
    """
    usual = [frame.std() for frame in source.usable(_SAMPLED)]
    limit = _GLARING * np.median(usual) if usual else np.inf
    glaring = []

    def usable(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for position, frame in enumerate(frames):
            if frame_problem(frame):
                continue
            if frame.std() > limit:
                glaring.append(position)
            else:
                yield frame

    with ThreadPoolExecutor(1) as reading:
        mean, count = _mean(usable(source.frames(reading)))
    if count == 0:
        raise ValueError(
            f"none of the {len(source)} reference frames holds an image: all are constant or hold NaN or infinite "
            "values, of which one pixel is enough (numpy.nan_to_num replaces them)"
        )
    if count == 1:
        return mean
    if glaring:
        indices = np.arange(len(source)) if source.indices is None else np.asarray(source.indices)
        source = replace(source, indices=np.delete(indices, glaring).tolist())
    mean, count = registered_mean(source, mean, options)
    logger.info("the reference is the mean of %d frames", count)
    return mean


def registered_mean(source: FrameSource, reference: np.ndarray, options: OFOptions) -> tuple[np.ndarray, int]:
    """Register frames to an image and average them; frames that cannot be registered are left out.

    Parameters
    ----------
    source
        The frames.
    reference
        Raw image (H, W, C) that they are registered to.
    options
        How to compute the flow, which is regularised more strongly than for the recording.

    Returns
    -------
    mean : ndarray
        float64 (H, W, C), in the place of `reference`.
    count : int
        Number of frames in it.
    """
    n_threads = resolve_threads(options.n_workers)
    strong = _strong(options, len(source))
    preprocess = Preprocessor(reference, options, source.dtype, _EXTRA_SIGMA)
    register = FrameRegistration.onto(reference, preprocess, strong)
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(n_threads) as workers:
        around = windows(source.frames(reading), preprocess.radius)
        registered = ordered_map(workers, register.alone, around, 2 * n_threads)
        return _mean(result.frame for result in registered if result.problem == 0)


def _strong(options: OFOptions, n_frames: int) -> OFOptions:
    """Return the options with which frames register among themselves."""
    strong = options.replace(
        alpha=tuple(np.broadcast_to(options.alpha, 2) + _EXTRA_ALPHA),
        cc_initialization=False,
        temporal_coherence=False,
        update_reference=False,
    )
    spacing = strong.flow().grid_spacing
    if spacing == 1 or n_frames < MANY_FRAMES:
        return strong
    return strong.replace(grid_spacing=spacing // 2, **_HALF_RESOLUTION)


def _mean(frames: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """Return the mean, float64, and number of frames; (0, 0) of none."""
    total, count = np.zeros(()), 0
    for frame in frames:
        total = np.add(total, frame, out=total if count else None)
        count += 1
    return total / max(count, 1), count


def _read_image(path: Path, frame_shape: tuple[int, int, int]) -> np.ndarray:
    """Read an image, (H, W) or (H, W, C), or a movie's mean.

    An image of C channels may have been saved with its channels as pages, as the toolbox does it, or as its columns, as
    tifffile does it: those are no movies of frames (H, W).
    """
    if not path.exists():
        raise FileNotFoundError(
            f"reference_frames: expected 'first:stop', such as '50:500', or an image's file, found {str(path)!r}, "
            "which is no file"
        )
    if path.suffix == ".npy":
        return load_npy(path)
    with open_video(path) as reader:
        if frame_shape[2] > 1 and reader.shape == (*frame_shape, 1):
            return reader[:][..., 0]
        if frame_shape[2] > 1 and reader.shape == (frame_shape[2], *frame_shape[:2], 1):
            return np.moveaxis(reader[:][..., 0], 0, -1)
        frames = FrameSource(reader)
        return _mean(frame for i in range(0, len(frames), frames.piece) for frame in frames.read(i, i + frames.piece))[
            0
        ]
