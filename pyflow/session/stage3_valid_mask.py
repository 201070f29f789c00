"""Stage 3: one mask of the pixels valid in every recording, and the recordings in the centre's frame.

1. Reduce each recording's per-frame masks over time: a pixel counts when it is valid in `valid_fraction` of
   the frames (`pyflow.session.final.masks`).
2. Warp that mask into the centre's frame, nearest neighbour, and drop what comes from outside the recording.
3. The final mask is where all recordings are valid. One that stage 2 calls not alignable is left out, unless
   `use_not_alignable` asks for it: where it lies is not known, so nothing of it is warped.
4. Warp the videos as well, where `align_output_format` asks for it (`pyflow.session.final.videos`).
5. Save it all as ``final_valid_idx`` (`pyflow.session.final.result`).

One recording is in memory at a time. Its masks go into their own files as they are made, and from there, like fields
and averages from theirs, into ``final_valid_idx``.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.flow.warp import imregister, imregister_binary
from pyflow.io.atomic import remove_partial_files
from pyflow.layout import RESULT_FILE, SUFFIXES
from pyflow.session.artifacts import State, check_done, make_key, read_status, retire, save_mask
from pyflow.session.claims import claim
from pyflow.session.config import SessionConfig
from pyflow.session.final.masks import count_valid_of_recording, valid_often
from pyflow.session.final.memory import frames_at_once, mask_bytes_at_once
from pyflow.session.final.result import collect, mask_files, save_result
from pyflow.session.final.videos import align_sequence_video
from pyflow.session.keys import aligned_parts, session_parts
from pyflow.session.recordings import hold_results, stored_path
from pyflow.session.report.page import save_session_report, try_report
from pyflow.session.results import Progress, Session, Stage1Result, average_shape, open_session, read_average
from pyflow.session.stage import Stage, execute
from pyflow.session.status import Standing

logger = logging.getLogger(__name__)

# Below the session's results: where videos go that may be results of today as well as of any run before.
EARLIER = "earlier"


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
        session.check_field(result)
    _check_arguments(session, middle_idx, displacement_fields)
    hold_results(config)
    unknown = _videos_of_unknown_runs(folder)

    aligned = [
        _alignment(session, result, progress)
        for result in session.results
        if config.align_output_format in SUFFIXES and not session.left_out(result)
    ]
    final = _final(session, shape, [path.name for stage in aligned for path in stage.outputs])
    for stage in (*aligned, final):
        execute(stage, resume=config.resume, deep=config.deep)
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
    folder, deep = session.config.final_results, session.config.deep
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


def _check_arguments(session: Session, middle_idx: int | None, given: Sequence[np.ndarray] | None) -> None:
    if middle_idx is not None and middle_idx != session.middle_idx:
        raise ValueError(f"middle_idx {middle_idx}, but stage 2 aligned the recordings to number {session.middle_idx}")
    if given is None:
        return
    if len(given) != len(session.results):
        raise ValueError(f"{len(given)} displacement_fields for {len(session.results)} recordings")
    for result, theirs in zip(session.results, given, strict=True):
        if not np.array_equal(session.field(result), theirs):
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
            session.field(result),
            average,
            chunk_size=frames_at_once(config, average.shape, result.video),
            output_format=config.align_output_format,
            n_threads=config.n_threads,
            progress=None if progress is None else lambda done, total: progress(result.recording.name, done, total),
        )
        session.check_unchanged([result, session.center])
        session.check_field(result)
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
        results = collect(session, shape, *_reduce(session, shape[:2]))
        files = {
            "aligned_video_paths": [folder / name for name in videos],
            "compensated_h5_paths": [result.video for result in session.results],
        }
        for name, paths in files.items():
            results[name] = [str(path) if config.absolute_paths else stored_path(path, folder) for path in paths]
        save_result(folder, results)
        session.check_unchanged(session.results)
        for result in session.results:
            session.check_field(result)
        return {"center": session.center.recording.name, "valid_pixels": int(results["final_valid"].sum())}

    outputs = [folder / f"{RESULT_FILE}{suffix}" for suffix in (".npz", ".mat", ".png")]
    outputs += [path for result in session.results for path in mask_files(folder, result.recording.name)]
    return Stage("stage3", "stage 3", folder, "session", lambda: _final_parts(session), run, tuple(outputs))


def _reduce(session: Session, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Save the recordings' masks; return what is valid in all, and in which share of the worst one's frames."""
    config = session.config
    n_bytes = mask_bytes_at_once(config, shape)
    valid, share = np.ones(shape, bool), np.ones(shape, np.float32)
    for result in session.results:
        counts, n_frames = count_valid_of_recording(result.recording.folder, shape, n_bytes)
        own = valid_often(counts, n_frames, config.valid_fraction)
        if session.left_out(result):
            aligned = np.zeros(shape, bool)
        else:
            w = session.field(result)
            aligned = imregister_binary(own, w[..., 0], w[..., 1])
            fraction = (counts / n_frames).astype(np.float32)
            valid &= aligned
            share = np.minimum(share, imregister(fraction, w, interpolation="nearest", n_threads=config.n_threads))
        for path, mask in zip(mask_files(config.final_results, result.recording.name), (own, aligned), strict=True):
            save_mask(path, mask)
    return valid, share
