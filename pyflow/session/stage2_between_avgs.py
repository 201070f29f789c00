"""Stage 2: find how each recording's field of view moved against the centre's, from their temporal averages.

1. Smooth both averages and bring them to one brightness and contrast.
2. Find the rigid shift by phase cross-correlation, to a fraction of a pixel.
3. Refine it into a displacement field with the flow.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from pyflow.flow.displacement import get_displacement
from pyflow.flow.filters import gaussian_filter
from pyflow.flow.rigid import RigidShift
from pyflow.flow.warp import imregister
from pyflow.io.atomic import replacing
from pyflow.layout import FIELD_FILE, FIELD_MATLAB_FILE, read_field
from pyflow.session.artifacts import save_npz
from pyflow.session.config import SessionConfig
from pyflow.session.results import Session, Stage1Result, open_session, read_averages
from pyflow.session.stage import Stage, execute
from pyflow.threads import resolve_threads

logger = logging.getLogger(__name__)


def compute_between_displacement(
    reference_avg: np.ndarray, current_avg: np.ndarray, config: SessionConfig
) -> np.ndarray:
    """Find the displacement between two temporal averages.

    Parameters
    ----------
    reference_avg, current_avg
        Averages (H, W) or (H, W, C) of the centre and of another recording.
    config
        `cc_upsample`, `sigma_smooth`, `alpha_between`, `iterations_between`, `n_workers` are used.

    Returns
    -------
    ndarray
        (H, W, 2) float32, pixels, backward: ``reference(y, x)`` looks like ``current(y + v, x + u)``.

    Raises
    ------
    ValueError
        The shapes differ, or a value is NaN or infinite.
    """
    if reference_avg.shape != current_avg.shape:
        raise ValueError(f"average's shape {current_avg.shape} does not match the centre's {reference_avg.shape}")
    for name, image in (("centre's", reference_avg), ("recording's", current_avg)):
        if not np.isfinite(image).all():
            raise ValueError(
                f"the {name} average holds {np.count_nonzero(~np.isfinite(image))} values that are not finite"
            )
    smooth = [_smooth(image, config) for image in (reference_avg, current_avg)]
    reference, current = _same_contrast(*smooth)
    rigid = np.empty((*reference_avg.shape[:2], 2), np.float32)
    rigid[:] = RigidShift(reference, upsample=config.cc_upsample)(current)
    # Warped once at full size: as a start the shift would be interpolated on every level's smaller image.
    shifted = imregister(current, rigid, fill=reference, n_threads=config.n_threads)
    return rigid + get_displacement(
        reference,
        shifted,
        alpha=config.alpha_between,
        iterations=config.iterations_between,
        n_threads=config.n_threads,
        backend=config.flow_backend,
        backend_params=config.backend_params,
    )


def _smooth(image: np.ndarray, config: SessionConfig) -> np.ndarray:
    image = image.astype(np.float32)
    return gaussian_filter(image, config.sigma_smooth, n_threads=config.n_threads) if config.sigma_smooth else image


def _same_contrast(reference: np.ndarray, current: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale each channel: the reference to 0..1, the other to the reference's mean and standard deviation.

    Mean and deviation, not minimum and maximum: one bright cell that fires on one day only must not dim all
    others. A channel without contrast becomes zero.
    """
    axes = (0, 1)
    low, span = reference.min(axes), np.ptp(reference, axes)
    deviation = current.std(axes)
    gain = np.where(deviation > 0, reference.std(axes) / np.where(deviation > 0, deviation, 1), 0)
    current = (current - current.mean(axes)) * gain + reference.mean(axes)
    usable = (span > 0) & (deviation > 0)
    scale = np.where(usable, 1 / np.where(span > 0, span, 1), 0)
    return ((reference - low) * scale).astype(np.float32), ((current - low) * scale).astype(np.float32)


def run_stage2(config: SessionConfig) -> tuple[int, Path, list[np.ndarray]]:
    """Find every recording's displacement into the centre's frame and save it as ``w_to_reference.npz``.

    Fields that exist and belong to today's averages, centre and options are kept.

    Parameters
    ----------
    config
        The session.

    Returns
    -------
    middle_idx : int
        The centre's index among the recordings, from 0.
    center_file : Path
        The centre's input file.
    displacement_fields : list of ndarray
        (H, W, 2) float32 for each recording, in their order; the centre's is zero.

    Raises
    ------
    FileNotFoundError, ValueError
        Stage 1 of a recording is not done, or averages differ in shape; the message names the recording.
    """
    session = open_session(config)
    averages = read_averages(session)
    alone = config.replace(n_workers=1)  # recordings in parallel beat threads inside each
    deep = config.fingerprint == "deep"
    with ThreadPoolExecutor(resolve_threads(config.n_threads)) as pool:
        steps = [_field(alone, session, result, averages) for result in session.results]
        list(pool.map(lambda step: execute(step, resume=config.resume, deep=deep), steps))
    center = session.center.recording
    fields = [read_field(result.recording.folder) for result in session.results]
    return session.middle_idx, center.path or center.folder, fields


def _field(config: SessionConfig, session: Session, result: Stage1Result, averages: list[np.ndarray]) -> Stage:
    """Return the stage that computes and saves a recording's field."""
    recording, center = result.recording, session.center
    average = averages[session.results.index(result)]

    def run() -> dict[str, Any]:
        if result is center:
            w = np.zeros((*average.shape[:2], 2), np.float32)
        else:
            try:
                w = compute_between_displacement(averages[session.middle_idx], average, config)
            except ValueError as error:
                raise ValueError(f"{recording.name} against the centre {center.recording.name}: {error}") from error
        field = {"u": w[..., 0], "v": w[..., 1]}
        save_npz(recording.folder / FIELD_FILE, **field)
        with replacing(recording.folder / FIELD_MATLAB_FILE) as temporary:
            scipy.io.savemat(temporary, field, appendmat=False, do_compression=True)
        u, v = (round(float(mean), 4) for mean in w.mean(axis=(0, 1), dtype=np.float64))
        logger.info("%s: shifted by (%.2f, %.2f) px against %s", recording.name, u, v, center.recording.name)
        return {"center": center.recording.name, "mean_shift_px": [u, v]}

    outputs = (recording.folder / FIELD_FILE, recording.folder / FIELD_MATLAB_FILE)
    parts = partial(session.field_parts, result)
    return Stage("stage2", "stage 2", recording.folder, recording.name, parts, run, outputs)
