"""Stage 3: one mask of the pixels valid in every recording, and the recordings in the centre's frame.

1. Reduce each recording's per-frame masks over time: a pixel counts when it is valid in `valid_fraction` of
   the frames.
2. Warp that mask into the centre's frame, nearest neighbour, and drop what comes from outside the recording.
3. The final mask is where all recordings are valid. One that stage 2 calls not alignable is left out, unless
   `use_not_alignable` asks for it: where it lies is not known, so nothing of it is warped.
4. Warp the videos as well, where `align_output_format` asks for it.

One recording is in memory at a time. Its masks go into their own files as they are made, and from there, like fields
and averages from theirs, into ``final_valid_idx``.
"""

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyflow.flow.warp import imregister, imregister_binary, valid_mask
from pyflow.io import get_video_file_writer
from pyflow.io.atomic import remove_partial_files
from pyflow.layout import (
    MASK_FILE,
    RESULT_FILE,
    SUFFIXES,
    find_flow,
    frames_per_chunk,
    iterate_masks,
    open_compensated,
    read_field,
)
from pyflow.motion.align import aligned_frames
from pyflow.session.artifacts import State, check_done, make_key, read_mask, read_status, retire, save_mask
from pyflow.session.claims import claim
from pyflow.session.config import SessionConfig
from pyflow.session.keys import aligned_parts, session_parts
from pyflow.session.recordings import hold_results, stored_path
from pyflow.session.report.page import save_session_report, try_report
from pyflow.session.results import Progress, Session, Stage1Result, average_shape, open_session, read_average
from pyflow.session.stacks import Stack, save_mat_stacks, save_npz_stacks
from pyflow.session.stage import Stage, execute
from pyflow.session.status import Standing
from pyflow.threads import resolve_threads

logger = logging.getLogger(__name__)

FORMAT_VERSION = "1"

_MASK_BYTES = 2 << 20  # of a recording's masks read at a time; more is slower, and has to be held three times

# Below the session's results: where videos go that may be results of today as well as of any run before.
EARLIER = "earlier"


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
    return _count(idx_path, iterate_masks(idx_path, _MASK_BYTES))


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
        One of `SUFFIXES`: ``"TIFF"``, ``"HDF5"`` and so on.
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
    with open_compensated(compensated_path) as reader:
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
    displacement_fields: Sequence[np.ndarray] | None = None,
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
    shape = average_shape(session)
    folder = config.final_results
    for result in session.results:
        _check_field(session, result)
    _check_arguments(session, middle_idx, displacement_fields)
    hold_results(config)
    unknown = _videos_of_unknown_runs(folder)
    deep = config.fingerprint == "deep"

    aligned = [
        _alignment(session, result, progress)
        for result in session.results
        if config.align_output_format in SUFFIXES and not session.left_out(result)
    ]
    final = _final(session, shape, [path.name for stage in aligned for path in stage.outputs])
    for stage in (*aligned, final):
        execute(stage, resume=config.resume, deep=deep)
    with claim(folder):
        retire(folder, keep={stage.name for stage in (*aligned, final)}.__contains__)
        remove_partial_files(folder)  # of processes that were killed: nobody else works here now
        for path in unknown - {path for stage in aligned for path in stage.outputs}:
            (folder / EARLIER).mkdir(exist_ok=True)
            path.replace(folder / EARLIER / path.name)
            logger.warning("%s: moved into %s, as it is not known what it was made from", path, EARLIER)
    if config.report:
        done = Standing("done")
        standings = {result.recording.name: {"stage 1": done, "stage 2": done} for result in session.results}
        try_report(lambda: save_session_report(config, standings, done, keep=True))
    with np.load(folder / f"{RESULT_FILE}.npz", allow_pickle=False) as data:
        return data["final_valid"]


def _videos_of_unknown_runs(folder: Path) -> set[Path]:
    """Return the aligned videos of which nothing tells whether they are of today, in a folder that lost its status."""
    if read_status(folder):
        return set()
    videos = {path for suffix in SUFFIXES.values() for path in folder.glob(f"aligned_*{suffix}")}
    return {path for path in videos if not read_status(folder, path.stem)}


def session_state(session: Session, *, glance: bool = False) -> State:
    """Say whether the session's results are there and belong to today's fields and options."""
    folder, deep = session.config.final_results, session.config.fingerprint == "deep"
    state = check_done(folder, "stage3", _final_parts(session), deep=deep, glance=glance)
    if session.config.align_output_format in SUFFIXES and state.done:
        for result in session.results:
            if session.left_out(result):
                continue
            name = _aligned_name(result)
            video = check_done(folder, name, _aligned_parts(session, result), deep=deep, glance=glance)
            if not video.done:
                return State(False, f"the aligned video of {result.recording.name}: {video.reason}")
    return state


def _aligned_name(result: Stage1Result) -> str:
    return f"aligned_{result.recording.name}"


def _aligned_parts(session: Session, result: Stage1Result) -> dict[str, Any]:
    return aligned_parts(session.config, make_key(session.field_parts(result)))


def _final_parts(session: Session) -> dict[str, Any]:
    keys = {result.recording.name: make_key(session.field_parts(result)) for result in session.results}
    return session_parts(session.config, session.center.recording.name, keys)


def _check_field(session: Session, result: Stage1Result) -> None:
    state = session.field_state(result)
    if not state.done:
        raise ValueError(f"{result.recording.name}: stage 2 has to run first ({state.reason})")


def _field(session: Session, result: Stage1Result) -> np.ndarray:
    """Read a recording's field, which stays on disk between its uses and must not have become another there."""
    _check_field(session, result)
    return read_field(result.recording.folder)


def _check_arguments(session: Session, middle_idx: int | None, given: Sequence[np.ndarray] | None) -> None:
    if middle_idx is not None and middle_idx != session.middle_idx:
        raise ValueError(f"middle_idx {middle_idx}, but stage 2 aligned the recordings to number {session.middle_idx}")
    if given is None:
        return
    if len(given) != len(session.results):
        raise ValueError(f"{len(given)} displacement_fields for {len(session.results)} recordings")
    for result, theirs in zip(session.results, given, strict=True):
        if not np.array_equal(_field(session, result), theirs):
            raise ValueError(f"{result.recording.name}: displacement_fields is not what stage 2 saved")


def _alignment(session: Session, result: Stage1Result, progress: Progress | None) -> Stage:
    """Return the stage that warps a recording's video into the centre's frame."""
    config, name = session.config, _aligned_name(result)
    output = config.final_results / f"{name}{SUFFIXES[config.align_output_format]}"

    def run() -> dict[str, Any]:
        average = read_average(session.center)
        align_sequence_video(
            result.video,
            output,
            _field(session, result),
            average,
            chunk_size=_frames_at_once(session, average.shape, result),
            output_format=config.align_output_format,
            n_threads=config.n_threads,
            progress=None if progress is None else lambda done, total: progress(result.recording.name, done, total),
        )
        session.check_unchanged([result, session.center])
        _check_field(session, result)
        return {}

    return Stage(
        name,
        "aligned video",
        config.final_results,
        result.recording.name,
        lambda: _aligned_parts(session, result),
        run,
        (output,),
        voids=("stage3",),
    )


def _final(session: Session, shape: tuple[int, ...], videos: list[str]) -> Stage:
    """Return the stage that makes ``final_valid_idx``; `videos` are the names of the aligned ones."""
    config = session.config
    folder = config.final_results

    def run() -> dict[str, Any]:
        results = _collect(session, shape, *_reduce(session, shape[:2]))
        files = {
            "aligned_video_paths": [folder / name for name in videos],
            "compensated_h5_paths": [result.video for result in session.results],
        }
        for name, paths in files.items():
            results[name] = [str(path) if config.absolute_paths else stored_path(path, folder) for path in paths]
        _save(folder, results)
        session.check_unchanged(session.results)
        for result in session.results:
            _check_field(session, result)
        return {"center": session.center.recording.name, "valid_pixels": int(results["final_valid"].sum())}

    outputs = [folder / f"{RESULT_FILE}{suffix}" for suffix in (".npz", ".mat", ".png")]
    outputs += [path for result in session.results for path in _mask_files(folder, result.recording.name)]
    return Stage("stage3", "stage 3", folder, "session", lambda: _final_parts(session), run, tuple(outputs))


def _mask_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Return where a recording's mask goes, as it is and in the centre's frame."""
    return folder / f"{name}_valid_idx.png", folder / f"{name}_valid_idx_aligned.png"


def _reduce(session: Session, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Save the recordings' masks; return what is valid in all, and in which share of the worst one's frames."""
    config = session.config
    n_bytes = _bytes_at_once(session, shape)
    valid, share = np.ones(shape, bool), np.ones(shape, np.float32)
    for result in session.results:
        counts, n_frames = _valid_counts(result, shape, n_bytes)
        own = _enough(counts, n_frames, config.valid_fraction)
        if session.left_out(result):
            aligned = np.zeros(shape, bool)
        else:
            w = _field(session, result)
            aligned = imregister_binary(own, w[..., 0], w[..., 1])
            fraction = (counts / n_frames).astype(np.float32)
            valid &= aligned
            share = np.minimum(share, imregister(fraction, w, interpolation="nearest", n_threads=config.n_threads))
        for path, mask in zip(_mask_files(config.final_results, result.recording.name), (own, aligned), strict=True):
            save_mask(path, mask)
    return valid, share


def _collect(session: Session, shape: tuple[int, ...], valid: np.ndarray, share: np.ndarray) -> dict[str, Any]:
    """Return everything in ``final_valid_idx``, of which the recordings' images are read when they are written."""
    folder, results = session.config.final_results, session.results

    def masks(which: int) -> Callable[[], Iterator[np.ndarray]]:
        return lambda: (read_mask(_mask_files(folder, result.recording.name)[which]) for result in results)

    def fields(component: int) -> Callable[[], Iterator[np.ndarray]]:
        return lambda: (_field(session, result)[..., component] for result in results)

    image = shape[:2]
    return {
        "final_valid": valid,
        "valid_share": share,
        "aligned_valid_masks": Stack(image, np.dtype(bool), len(results), masks(1)),
        "per_seq_valid_masks": Stack(image, np.dtype(bool), len(results), masks(0)),
        "displacement_fields_u": Stack(image, np.dtype(np.float32), len(results), fields(0), cells=False),
        "displacement_fields_v": Stack(image, np.dtype(np.float32), len(results), fields(1), cells=False),
        "temporal_averages": Stack(shape, np.dtype(np.float64), len(results), lambda: map(read_average, results)),
        "reference_average": read_average(session.center),
        "middle_idx": session.middle_idx,
        "middle_name": session.center.recording.name,
        "recordings": [result.recording.name for result in results],
        "verdicts": [session.alignment(result)["verdict"] for result in results],
    }


def _valid_counts(result: Stage1Result, shape: tuple[int, int], n_bytes: int = _MASK_BYTES) -> tuple[np.ndarray, int]:
    """Count valid frames from ``idx.hdf``, else from displacement fields (MATLAB), else all pixels."""
    folder = result.recording.folder
    fields = find_flow(folder)
    if (folder / MASK_FILE).is_file():
        source = folder / MASK_FILE
        counts, n_frames = _count(source, iterate_masks(source, n_bytes))
    elif fields is not None:
        source = fields
        counts, n_frames = _count(source, _inside(source, n_bytes))
    else:
        logger.warning("%s: neither %s nor displacement fields; taking every pixel for valid", folder, MASK_FILE)
        return np.ones(shape, np.int64), 1
    if counts.shape != shape:
        raise ValueError(f"{source}: masks of shape {counts.shape}, but the average has {shape}")
    return counts, n_frames


def _bytes_at_once(session: Session, shape: tuple[int, ...]) -> int:
    """Return how many bytes of masks may be read at a time, of which there are three copies while they are counted."""
    limit = session.config.memory_limit_gb
    return _MASK_BYTES if limit is None else min(_MASK_BYTES, _left(session.config, shape) // 3)


def _frames_at_once(session: Session, shape: tuple[int, ...], result: Stage1Result) -> int:
    """Return how many frames of a video may be in memory: as read, warped, and put together for the file."""
    asked = session.config.align_chunk_size
    if session.config.memory_limit_gb is None:
        return asked
    with open_compensated(result.video) as reader:
        frame_bytes = math.prod(reader.shape[1:]) * reader.dtype.itemsize
    return max(1, min(asked, _left(session.config, shape) // (3 * frame_bytes)))


def _left(config: SessionConfig, shape: tuple[int, ...]) -> int:
    """Return the bytes that frames may take of `memory_limit_gb`, beside what the process and its images take.

    Raises
    ------
    ValueError
        Nothing is left; the message says what is needed.
    """
    # The images of one recording and of the centre: averages in float64, the field and its parts, counts, shares and
    # masks; and for each thread a frame in float32, before and after.
    pixels = math.prod(shape)
    images = 2 * 8 * pixels + 64 * math.prod(shape[:2]) + resolve_threads(config.n_threads) * 16 * pixels
    taken = _resident_bytes() + images
    needed = taken + 8 * 8 * pixels
    limit = int(config.memory_limit_gb * 2**30)
    if limit < needed:
        raise ValueError(
            f"memory_limit_gb: expected at least {needed / 2**30:.3f} for averages of shape {shape}, "
            f"found {config.memory_limit_gb}"
        )
    return limit - taken


def _resident_bytes() -> int:
    """Return the memory that this process has now, or, where that is not told, about what Python and libraries take."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 150 << 20
    return pages * os.sysconf("SC_PAGE_SIZE")


def _inside(path: Path, n_bytes: int) -> Iterator[np.ndarray]:
    """Yield masks (n, H, W) of the pixels that come from inside the image, from fields ``u`` and ``v``."""
    with h5py.File(path, "r") as file:
        u, v = file["u"], file["v"]
        step = frames_per_chunk((*u.shape[1:], 2), np.float64, n_bytes)
        for first in range(0, len(u), step):
            chunk = np.stack([u[first : first + step], v[first : first + step]], axis=-1).astype(np.float32)
            yield np.stack([valid_mask(w) for w in chunk])


def _save(folder: Path, results: dict[str, Any]) -> None:
    save_npz_stacks(folder / f"{RESULT_FILE}.npz", results)
    left_out = save_mat_stacks(folder / f"{RESULT_FILE}.mat", _for_matlab(results))
    if left_out:
        logger.warning(
            "%s.mat: %s would be larger than the 2 GiB that a variable may have there; what it says is in %s.npz",
            *(RESULT_FILE, ", ".join(left_out), RESULT_FILE),
        )
    save_mask(folder / f"{RESULT_FILE}.png", results["final_valid"])


def _for_matlab(results: dict[str, Any]) -> dict[str, Any]:
    """Rearrange the results as MATLAB's own stage 3 has them: a cell per recording, indices from 1."""
    u, v = results["displacement_fields_u"], results["displacement_fields_v"]
    fields = Stack(
        (*u.shape, 2), u.dtype, u.count, lambda: (np.stack(pair, axis=-1) for pair in zip(u, v, strict=True))
    )
    return {
        **{name: value for name, value in results.items() if isinstance(value, np.ndarray | Stack)},
        "displacement_fields": fields,
        "middle_idx": float(results["middle_idx"] + 1),
        "middle_name": _ascii(results["middle_name"]),
        **{
            key: _cells(map(_ascii, results[key]))
            for key in ("recordings", "compensated_h5_paths", "aligned_video_paths", "verdicts")
        },
        "format_version": FORMAT_VERSION,
    }


def _cells(items: Iterable[str]) -> np.ndarray:
    """Make an N x 1 cell array."""
    return np.array([*items], object).reshape(-1, 1)


def _ascii(text: str) -> str:
    """Make text survive a v5 .mat file, whose cells hold ASCII only, and say what became of it."""
    safe = text.encode("ascii", "backslashreplace").decode("ascii")
    if safe != text:
        logger.warning("%s.mat: %r is not ASCII and stands there as %r", RESULT_FILE, text, safe)
    return safe
