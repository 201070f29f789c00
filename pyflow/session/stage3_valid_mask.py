"""Stage 3: one mask of the pixels valid in every recording, and the recordings in the centre's frame.

1. Reduce each recording's per-frame masks over time: a pixel counts when it is valid in `valid_fraction` of
   the frames.
2. Warp that mask into the centre's frame, nearest neighbour, and drop what comes from outside the recording.
3. The final mask is where all recordings are valid.
4. Warp the videos as well, where `align_output_format` asks for it.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from pyflow.flow.warp import imregister, imregister_binary, valid_mask
from pyflow.io import get_video_file_writer, open_video
from pyflow.io.atomic import replacing
from pyflow.layout import (
    MASK_FILE,
    RESULT_FILE,
    SUFFIXES,
    find_flow,
    frames_per_chunk,
    iterate_masks,
    read_field,
)
from pyflow.motion.align import aligned_frames
from pyflow.session.artifacts import State, check_done, make_key, retire, save_mask, save_npz
from pyflow.session.claims import claim
from pyflow.session.config import SessionConfig
from pyflow.session.keys import aligned_parts, session_parts
from pyflow.session.recordings import hold_results, relative_path
from pyflow.session.results import Progress, Session, Stage1Result, open_session, read_averages
from pyflow.session.stage import Stage, execute

logger = logging.getLogger(__name__)

FORMAT_VERSION = "1"


def load_idx_and_compute_mask(idx_path: Path, valid_fraction: float = 1.0) -> np.ndarray:
    """Reduce a recording's per-frame masks to one.

    Parameters
    ----------
    idx_path
        An ``idx.hdf``.
    valid_fraction
        Fraction of the frames in which a pixel has to be valid; 1 is the logical AND.

    Returns
    -------
    ndarray
        (H, W) bool.

    Raises
    ------
    ValueError
        The file cannot be read, or no frame has a valid pixel.
    """
    counts, n_frames = count_valid(idx_path)
    return _enough(counts, n_frames, valid_fraction)


def count_valid(idx_path: Path) -> tuple[np.ndarray, int]:
    """Count in how many frames each pixel is valid, reading the file in chunks.

    Frames without any valid pixel (NaN in the input, motion beyond the image) say nothing about single pixels
    and are left out.

    Returns
    -------
    counts : ndarray
        (H, W) int64.
    n_frames : int
        Frames that count.

    Raises
    ------
    ValueError
        The file cannot be read, or no frame has a valid pixel.
    """
    return _count(idx_path, iterate_masks(idx_path))


def _count(idx_path: Path, chunks: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """Count as `count_valid` says, in masks (n, H, W)."""
    counts, n_frames, n_empty = 0, 0, 0
    for masks in chunks:
        some = masks.any(axis=(1, 2))
        counts = counts + np.count_nonzero(masks, axis=0)
        n_frames += int(some.sum())
        n_empty += int((~some).sum())
    if n_frames == 0:
        raise ValueError(f"{idx_path}: no frame has a valid pixel")
    if n_empty:
        logger.warning(
            "%s: %d of %d frames have no valid pixel and are left out", idx_path, n_empty, n_frames + n_empty
        )
    return counts, n_frames


def _enough(counts: np.ndarray, n_frames: int, valid_fraction: float) -> np.ndarray:
    return counts >= math.ceil(valid_fraction * n_frames - 1e-9)  # 0.9 * 10 is a little more than 9


def align_sequence_video(
    compensated_path: Path,
    output_path: Path,
    displacement: np.ndarray,
    reference_average: np.ndarray,
    *,
    chunk_size: int = 64,
    output_format: str = "TIFF",
    n_threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Warp a compensated video into the centre's frame, some frames at a time.

    Parameters
    ----------
    compensated_path
        The video.
    output_path
        Where it goes; appears there only when complete.
    displacement
        (H, W, 2) float32, pixels, backward, into the centre's frame.
    reference_average
        (H, W) or (H, W, C): what pixels from outside the recording show.
    chunk_size
        Frames in memory at a time.
    output_format
        ``"TIFF"`` or ``"HDF5"``.
    n_threads
        Frames warped at once; 0 for all threads this process may use.
    progress
        Called as ``progress(done, total)`` with frames.

    Returns
    -------
    Path
        `output_path`.

    Raises
    ------
    ValueError
        The displacement's or average's shape does not match the video's.
    OSError
        It could not be written, for want of space for example; the message names `output_path`.
    """
    with open_video(compensated_path) as reader:
        frames = aligned_frames(reader, displacement, reference_average, chunk_size=chunk_size, n_threads=n_threads)
        output_path.parent.mkdir(parents=True, exist_ok=True)
        rate = {"frame_rate_hz": reader.frame_rate_hz} if output_format == "TIFF" else {}
        with get_video_file_writer(output_path, output_format, **rate) as writer:
            for warped in frames:
                writer.write_frames(warped)
                if progress is not None:
                    progress(writer.frames_written, reader.frame_count)
    return output_path


def run_stage3(
    config: SessionConfig,
    middle_idx: int | None = None,
    displacement_fields: list[np.ndarray] | None = None,
    *,
    progress: Progress | None = None,
) -> np.ndarray:
    """Compute the session's valid mask and, where asked for, the videos in the centre's frame.

    Parameters
    ----------
    config
        The session.
    middle_idx, displacement_fields
        What `run_stage2` returned. None: as it left them on disk, which is what they must equal.
    progress
        Called as ``progress(recording, done, total)`` with frames while a video is warped.

    Returns
    -------
    ndarray
        (H, W) bool: valid in every recording.

    Raises
    ------
    FileNotFoundError, ValueError
        An earlier stage of a recording is not done, its files do not fit each other, or the arguments are not
        what stage 2 left; the message names the recording.
    """
    session = open_session(config)
    hold_results(config)
    averages = read_averages(session)
    folder = config.final_results
    fields = [_checked_field(session, result) for result in session.results]
    _check_arguments(session, fields, middle_idx, displacement_fields)
    deep = config.fingerprint == "deep"

    aligned = [
        _alignment(session, result, w, averages[session.middle_idx], progress)
        for result, w in zip(session.results, fields, strict=True)
        if config.align_output_format in SUFFIXES
    ]
    final = _final(session, averages, fields, [path.name for stage in aligned for path in stage.outputs])
    for stage in (*aligned, final):
        execute(stage, resume=config.resume, deep=deep)
    with claim(folder):
        retire(folder, keep={stage.name for stage in (*aligned, final)}.__contains__)
        for partial in folder.glob(".partial-*"):  # of processes that were killed: nobody else works here now
            partial.unlink()
    with np.load(folder / f"{RESULT_FILE}.npz", allow_pickle=False) as data:
        valid = data["final_valid"]
    logger.info("%d of %d pixels are valid in every recording", valid.sum(), valid.size)
    return valid


def session_state(session: Session) -> State:
    """Say whether the session's results are there and belong to today's fields and options."""
    folder, deep = session.config.final_results, session.config.fingerprint == "deep"
    state = check_done(folder, "stage3", _final_parts(session), deep=deep)
    if session.config.align_output_format in SUFFIXES and state.done:
        for result in session.results:
            name = _aligned_name(result)
            video = check_done(folder, name, _aligned_parts(session, result), deep=deep)
            if not video.done:
                return State(False, f"{name}: {video.reason}")
    return state


def _aligned_name(result: Stage1Result) -> str:
    return f"aligned_{result.recording.name}"


def _aligned_parts(session: Session, result: Stage1Result) -> dict[str, Any]:
    return aligned_parts(session.config, make_key(session.field_parts(result)))


def _final_parts(session: Session) -> dict[str, Any]:
    keys = {result.recording.name: make_key(session.field_parts(result)) for result in session.results}
    return session_parts(session.config, session.center.recording.name, keys)


def _checked_field(session: Session, result: Stage1Result) -> np.ndarray:
    state = session.field_state(result)
    if not state.done:
        raise ValueError(f"{result.recording.name}: stage 2 has to run first ({state.reason})")
    return read_field(result.recording.folder)


def _check_arguments(
    session: Session, fields: list[np.ndarray], middle_idx: int | None, given: list[np.ndarray] | None
) -> None:
    if middle_idx is not None and middle_idx != session.middle_idx:
        raise ValueError(f"middle_idx {middle_idx}, but stage 2 aligned the recordings to number {session.middle_idx}")
    if given is None:
        return
    if len(given) != len(fields):
        raise ValueError(f"{len(given)} displacement_fields for {len(fields)} recordings")
    for result, ours, theirs in zip(session.results, fields, given, strict=True):
        if not np.array_equal(ours, theirs):
            raise ValueError(f"{result.recording.name}: displacement_fields is not what stage 2 saved")


def _alignment(
    session: Session, result: Stage1Result, w: np.ndarray, reference_average: np.ndarray, progress: Progress | None
) -> Stage:
    """Return the stage that warps a recording's video into the centre's frame."""
    config, name = session.config, _aligned_name(result)
    output = config.final_results / f"{name}{SUFFIXES[config.align_output_format]}"

    def run() -> dict[str, Any]:
        align_sequence_video(
            result.video,
            output,
            w,
            reference_average,
            chunk_size=config.align_chunk_size,
            output_format=config.align_output_format,
            n_threads=config.n_threads,
            progress=None if progress is None else lambda done, total: progress(result.recording.name, done, total),
        )
        return {}

    return Stage(
        name,
        config.final_results,
        result.recording.name,
        lambda: _aligned_parts(session, result),
        run,
        (output,),
        voids=("stage3",),
    )


def _final(session: Session, averages: list[np.ndarray], fields: list[np.ndarray], videos: list[str]) -> Stage:
    """Return the stage that makes ``final_valid_idx``; `videos` are the names of the aligned ones."""
    config = session.config
    folder = config.final_results

    def run() -> dict[str, Any]:
        results = _reduce(session, averages, fields)
        results["aligned_video_paths"] = videos
        results["compensated_h5_paths"] = [relative_path(result.video, folder) for result in session.results]
        _save(folder, results)
        return {"center": session.center.recording.name, "valid_pixels": int(results["final_valid"].sum())}

    outputs = [folder / f"{RESULT_FILE}{suffix}" for suffix in (".npz", ".mat", ".png")]
    outputs += [path for result in session.results for path in _mask_files(folder, result.recording.name)]
    return Stage("stage3", folder, "session", lambda: _final_parts(session), run, tuple(outputs))


def _mask_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Return where a recording's mask goes, as it is and in the centre's frame."""
    return folder / f"{name}_valid_idx.png", folder / f"{name}_valid_idx_aligned.png"


def _reduce(session: Session, averages: list[np.ndarray], fields: list[np.ndarray]) -> dict[str, Any]:
    """Compute everything in ``final_valid_idx``."""
    config = session.config
    shape = averages[0].shape[:2]
    own, aligned, fractions = [], [], []
    for result, w in zip(session.results, fields, strict=True):
        counts, n_frames = _valid_counts(result, shape)
        own.append(_enough(counts, n_frames, config.valid_fraction))
        aligned.append(imregister_binary(own[-1], w[..., 0], w[..., 1]))
        fraction = (counts / n_frames).astype(np.float32)
        fractions.append(imregister(fraction, w, interpolation="nearest", n_threads=config.n_threads))
    return {
        "final_valid": np.logical_and.reduce(aligned),
        "valid_share": np.minimum.reduce(fractions),
        "aligned_valid_masks": np.stack(aligned),
        "per_seq_valid_masks": np.stack(own),
        "displacement_fields_u": np.stack([w[..., 0] for w in fields]),
        "displacement_fields_v": np.stack([w[..., 1] for w in fields]),
        "temporal_averages": np.stack(averages),
        "reference_average": averages[session.middle_idx],
        "middle_idx": session.middle_idx,
        "middle_name": session.center.recording.name,
        "recordings": [result.recording.name for result in session.results],
    }


def _valid_counts(result: Stage1Result, shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Count valid frames from ``idx.hdf``, else from displacement fields (MATLAB), else all pixels."""
    folder = result.recording.folder
    fields = find_flow(folder)
    if (folder / MASK_FILE).is_file():
        source = folder / MASK_FILE
        counts, n_frames = count_valid(source)
    elif fields is not None:
        source = fields
        counts, n_frames = _count(source, _inside(source))
    else:
        logger.warning("%s: neither %s nor displacement fields; taking every pixel for valid", folder, MASK_FILE)
        return np.ones(shape, np.int64), 1
    if counts.shape != shape:
        raise ValueError(f"{source}: masks of shape {counts.shape}, but the average has {shape}")
    return counts, n_frames


def _inside(path: Path) -> Iterator[np.ndarray]:
    """Yield masks (n, H, W) of the pixels that come from inside the image, from fields ``u`` and ``v``."""
    with h5py.File(path, "r") as file:
        u, v = file["u"], file["v"]
        step = frames_per_chunk(u.shape[1:], np.float64)
        for first in range(0, len(u), step):
            chunk = np.stack([u[first : first + step], v[first : first + step]], axis=-1).astype(np.float32)
            yield np.stack([valid_mask(w) for w in chunk])


def _save(folder: Path, results: dict[str, Any]) -> None:
    save_npz(folder / f"{RESULT_FILE}.npz", **{key: np.asarray(value) for key, value in results.items()})
    with replacing(folder / f"{RESULT_FILE}.mat") as temporary:
        scipy.io.savemat(temporary, _for_matlab(results), appendmat=False, do_compression=True, oned_as="column")
    save_mask(folder / f"{RESULT_FILE}.png", results["final_valid"])
    for i, name in enumerate(results["recordings"]):
        masks = results["per_seq_valid_masks"][i], results["aligned_valid_masks"][i]
        for path, mask in zip(_mask_files(folder, name), masks, strict=True):
            save_mask(path, mask)


def _for_matlab(results: dict[str, Any]) -> dict[str, Any]:
    """Rearrange the results as MATLAB's own stage 3 has them: a cell per recording, indices from 1."""
    u, v = results["displacement_fields_u"], results["displacement_fields_v"]
    return {
        "final_valid": results["final_valid"],
        "valid_share": results["valid_share"],
        "aligned_valid_masks": _cells(results["aligned_valid_masks"]),
        "per_seq_valid_masks": _cells(results["per_seq_valid_masks"]),
        "displacement_fields": _cells([np.stack(pair, axis=-1) for pair in zip(u, v, strict=True)]),
        "displacement_fields_u": np.moveaxis(u, 0, -1),
        "displacement_fields_v": np.moveaxis(v, 0, -1),
        "temporal_averages": _cells(results["temporal_averages"]),
        "reference_average": results["reference_average"],
        "middle_idx": float(results["middle_idx"] + 1),
        "middle_name": _ascii(results["middle_name"]),
        **{
            key: _cells(map(_ascii, results[key]))
            for key in ("recordings", "compensated_h5_paths", "aligned_video_paths")
        },
        "format_version": FORMAT_VERSION,
    }


def _cells(items: Iterable[Any]) -> np.ndarray:
    """Make an N x 1 cell array; numpy would merge equal shapes into one array if left to itself."""
    items = list(items)
    cells = np.empty((len(items), 1), object)
    for i, item in enumerate(items):
        cells[i, 0] = item
    return cells


def _ascii(text: str) -> str:
    """Make text survive a v5 .mat file, whose cells hold ASCII only, and say what became of it."""
    safe = text.encode("ascii", "backslashreplace").decode("ascii")
    if safe != text:
        logger.warning("%s.mat: %r is not ASCII and stands there as %r", RESULT_FILE, text, safe)
    return safe
