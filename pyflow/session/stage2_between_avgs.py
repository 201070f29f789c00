"""Stage 2: find how each recording's field of view moved against the centre's, from their temporal averages.

1. Align the averages (`pyflow.align.between`). Where smoothing and smoothness are both given as numbers, do it as the
   guide of the MATLAB toolbox does: one brightness and contrast, the shift by phase correlation, one flow.
2. Decide whether that can be believed (`pyflow.align.trust`), and keep the verdict with the field.
3. Where the direct way cannot be believed, try one through a neighbouring recording.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import scipy.io

from pyflow.align.between import Alignment, Flow, align, comparable, composed
from pyflow.align.start import Map
from pyflow.align.trust import ALIGNED, DOUBTFUL, NOT_ALIGNABLE, examine, judge
from pyflow.flow.displacement import get_displacement
from pyflow.flow.filters import gaussian_filter
from pyflow.flow.rigid import RigidShift
from pyflow.flow.warp import imregister
from pyflow.io.atomic import replacing
from pyflow.layout import FIELD_FILE, FIELD_MATLAB_FILE, read_field
from pyflow.session.artifacts import save_npz
from pyflow.session.config import AUTO_CENTER, SessionConfig
from pyflow.session.results import (
    Session,
    Stage1Result,
    average_shape,
    open_session,
    read_average,
    save_center,
)
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
        `cc_upsample`, `sigma_smooth`, `alpha_between`, `iterations_between`, `stage2_constancy_assumption`,
        `flow_backend` and `n_workers` are used.

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
    return _align(reference_avg, current_avg, config).displacement_px


def _align(reference_avg: np.ndarray, current_avg: np.ndarray, config: SessionConfig) -> Alignment:
    if "auto" in (config.sigma_smooth, config.alpha_between):
        return align(reference_avg, current_avg, _flow(config))
    smooth = [_smooth(image, config) for image in (reference_avg, current_avg)]
    reference, current = _same_contrast(*smooth)
    shift = RigidShift(reference, upsample=config.cc_upsample)(current)
    rigid = np.empty((*reference_avg.shape[:2], 2), np.float32)
    rigid[:] = shift
    # Warped once at full size: as a start the shift would be interpolated on every level's smaller image.
    shifted = imregister(current, rigid, fill=reference, n_threads=config.n_threads)
    w = rigid + get_displacement(
        reference,
        shifted,
        alpha=config.alpha_between,
        iterations=config.iterations_between,
        const_assumption=config.stage2_constancy_assumption,
        n_threads=config.n_threads,
        backend=config.flow_backend,
        backend_params=config.backend_params,
    )
    return Alignment(w, Map(np.eye(2), np.array(shift)), config.sigma_smooth, config.alpha_between, 1)


def _flow(config: SessionConfig) -> Flow:
    return Flow(
        smoothing=None if config.sigma_smooth == "auto" else config.sigma_smooth,
        alpha=None if config.alpha_between == "auto" else config.alpha_between,
        iterations=config.iterations_between,
        const_assumption=config.stage2_constancy_assumption,
        backend=config.flow_backend,
        backend_params=config.backend_params,
        n_threads=config.n_threads,
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


class SavedFields(Sequence[np.ndarray]):
    """The fields of a session, (H, W, 2) float32, each read when it is asked for, as all together may be large."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def __len__(self) -> int:
        return len(self._folders)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> "SavedFields": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | SavedFields":
        found = self._folders[index]
        return SavedFields(found) if isinstance(index, slice) else read_field(found)


def run_stage2(config: SessionConfig) -> tuple[int, Path, SavedFields]:
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
    displacement_fields : SavedFields
        (H, W, 2) float32 for each recording, in their order; the centre's is zero.

    Raises
    ------
    FileNotFoundError, ValueError
        Stage 1 of a recording is not done, averages differ in shape, or there is nothing in the centre's; the message
        names the recording.
    """
    session = open_session(config)
    average_shape(session)
    if problem := _problem(read_average(session.center)):
        raise ValueError(
            f"{session.center.recording.name}: nothing can be aligned to it: {problem}; set another center"
        )
    if config.center == AUTO_CENTER:
        save_center(session)
    alone = config.replace(n_workers=1)  # recordings in parallel beat threads inside each
    with ThreadPoolExecutor(resolve_threads(config.n_threads)) as pool:
        steps = [_field(alone, session, result) for result in session.results]
        list(pool.map(lambda step: execute(step, resume=config.resume, deep=config.deep), steps))
    for line in alignment_lines(session):
        logger.warning("%s", line)
    center = session.center.recording
    fields = SavedFields([result.recording.folder for result in session.results])
    return session.middle_idx, center.path or center.folder, fields


def alignment_lines(session: Session) -> list[str]:
    """Say of every recording whose alignment is not just as it should be, what is wrong, and what becomes of it."""
    return [line for line in (alignment_line(session, result) for result in session.results) if line]


def alignment_line(session: Session, result: Stage1Result) -> str:
    """Say what is not as it should be with a recording's alignment; empty where nothing is."""
    found, name = session.alignment(result), result.recording.name
    if found.get("verdict") == DOUBTFUL:
        return f"{name}: the alignment is doubtful. {_sentence(found['why'])} Look at it before you use it."
    if found.get("verdict") == NOT_ALIGNABLE:
        becomes = "Stage 3 leaves it out." if session.left_out(result) else "It is used, as use_not_alignable asks."
        return f"{name}: not alignable. {_sentence(found['why'])} {becomes}"
    if found.get("through"):
        return f"{name}: aligned through {found['through']}, as the direct way to the centre fails."
    return ""


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _field(config: SessionConfig, session: Session, result: Stage1Result) -> Stage:
    """Return the stage that computes and saves a recording's field, and whether it can be believed."""
    recording, center = result.recording, session.center

    def run() -> dict[str, Any]:
        if result is center:
            shape = read_average(result).shape[:2]
            w, residual = np.zeros((*shape, 2), np.float32), np.zeros((1, 1), np.float32)
            facts: dict[str, Any] = {"verdict": ALIGNED, "why": ""}
            neighbours: list[Stage1Result] = []
        else:
            try:
                w, residual, facts, neighbours = _find(config, session, result)
            except ValueError as error:
                raise ValueError(f"{recording.name} against the centre {center.recording.name}: {error}") from error
        session.check_unchanged([result, center, *neighbours])
        field = {"u": w[..., 0], "v": w[..., 1]}
        save_npz(recording.folder / FIELD_FILE, **field, residual_px=residual)
        with replacing(recording.folder / FIELD_MATLAB_FILE) as temporary:
            scipy.io.savemat(temporary, field, appendmat=False, do_compression=True)
        u, v = (round(float(mean), 4) for mean in w.mean(axis=(0, 1), dtype=np.float64))
        if result is center:
            logger.info("%s: the centre, which the others are aligned to", recording.name)
        else:
            logger.info(
                *("%s: shifted by (%.2f, %.2f) px against %s; %s", recording.name, u, v, center.recording.name),
                facts["verdict"],
            )
        return {
            "center": center.recording.name,
            "mean_shift_px": [u, v],
            "alignment": facts,
            "parts": session.field_parts(result, neighbours),
        }

    outputs = (recording.folder / FIELD_FILE, recording.folder / FIELD_MATLAB_FILE)
    parts = partial(session.field_parts, result)
    return Stage("stage2", "stage 2", recording.folder, recording.name, parts, run, outputs)


def _find(
    config: SessionConfig, session: Session, result: Stage1Result
) -> tuple[np.ndarray, np.ndarray, dict[str, Any], list[Stage1Result]]:
    """Align a recording to the centre, directly or through a neighbour.

    Returns
    -------
    w, residual
        The field, and `examine`'s residual of its tiles.
    facts
        What can be said for and against it.
    considered
        The neighbours that had a part in the decision.
    """
    flow = _flow(config)
    center, own = read_average(session.center), read_average(result)
    if problem := _problem(own):
        own[:] = 0
    direct = _align(center, own, config)
    trust, residual = examine(center, own, direct, flow)
    facts = {**trust.facts(), **_how(direct)}
    if problem:
        return direct.displacement_px, residual, {**facts, "why": problem}, []
    if trust.verdict == ALIGNED:
        return direct.displacement_px, residual, facts, []
    neighbours = session.neighbours(result)
    for neighbour in neighbours:
        between = read_average(neighbour)
        first = _align(center, between, config)
        if examine(center, between, first, flow)[0].verdict != ALIGNED:
            continue
        then = _align(between, own, config)
        link, _ = examine(between, own, then, flow)
        if link.verdict != ALIGNED:
            continue
        w = composed(then.displacement_px, first.displacement_px)
        whole, residual = examine(center, own, replace(direct, displacement_px=w), flow)
        facts = {**whole.facts(), **{name: link.facts()[name] for name in _OF_THE_LINK}}
        facts["verdict"], facts["why"] = judge(facts, int(np.count_nonzero(~np.isnan(residual))))
        return w, residual, {**facts, **_how(then), "through": neighbour.recording.name}, neighbours
    return direct.displacement_px, residual, facts, neighbours


# What the centre's own average cannot tell of a recording that looks otherwise; its neighbour's can.
_OF_THE_LINK = ("tiles_found", "correlation_held_out", "disagreement_px")


def _problem(average: np.ndarray) -> str:
    """Say why an average cannot be aligned to any; empty where it may be."""
    if unusable := np.count_nonzero(~np.isfinite(average)):
        return f"its average holds {unusable} values that are not finite"
    return "" if comparable(average, average)[0].size else "its average has no structure"


def _how(alignment: Alignment) -> dict[str, Any]:
    """Return what was chosen for an alignment, JSON-able."""
    return {
        "start": alignment.start.kind,
        "matrix": alignment.start.matrix.round(5).tolist(),
        "offset_px": alignment.start.offset.round(3).tolist(),
        "smoothing_px": alignment.smoothing_px,
        "alpha": alignment.alpha,
        "rounds": alignment.rounds,
    }
