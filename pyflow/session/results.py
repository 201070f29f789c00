"""What one stage leaves on disk for the next, and the keys that tie them together."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.io import open_video
from pyflow.layout import (
    AVERAGE_FILE,
    FLOW_FILES,
    MASK_FILE,
    SCHEMA_VERSION,
    STATUS_FILE,
    VIDEO_FILE,
    find_video,
    fingerprint,
    frames_per_chunk,
    iterate_masks,
)
from pyflow.motion.options import OFOptions
from pyflow.session.artifacts import (
    State,
    check_done,
    damaged_output,
    make_key,
    mark_done,
    read_marker,
    read_status,
    save_npy,
)
from pyflow.session.config import SessionConfig
from pyflow.session.recordings import Recording, find_compensated

logger = logging.getLogger(__name__)

# progress(recording, done, total), in frames
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Stage1Result:
    """A recording after stage 1; `key` changes with the result."""

    recording: Recording
    key: str
    video: Path


@dataclass(frozen=True)
class Session:
    """All recordings after stage 1; `middle_idx` is the centre's index, from 0."""

    results: list[Stage1Result]
    middle_idx: int

    @property
    def center(self) -> Stage1Result:
        """The recording whose frame is everyone's."""
        return self.results[self.middle_idx]


def stage1_options(config: SessionConfig, recording: Recording) -> OFOptions:
    """Return what stage 1 hands to `compensate_recording`."""
    return OFOptions(
        **config.flow_options,
        input_file=recording.path,
        output_path=recording.folder,
        output_format="HDF5",
        save_valid_idx=True,
        n_workers=config.n_threads,
    )


def stage1_parts(config: SessionConfig, recording: Recording) -> dict[str, Any]:
    """Return what a recording's stage 1 key is made from."""
    return {
        "schema": SCHEMA_VERSION["stage1"],
        "input": fingerprint(recording.path),
        "options": stage1_options(config, recording).result_fields(),
        "flow_backend": config.flow_backend,
    }


def field_parts(config: SessionConfig, result: Stage1Result, center: Stage1Result) -> dict[str, Any]:
    """Return what a recording's stage 2 key is made from."""
    names = ("flow_backend", "cc_upsample", "sigma_smooth", "alpha_between", "iterations_between")
    return {
        "schema": SCHEMA_VERSION["stage2"],
        "options": {name: getattr(config, name) for name in names},
        "stage1": result.key,
        "center": center.recording.name,
        "center_stage1": center.key,
    }


def stage1_state(config: SessionConfig, recording: Recording) -> State:
    """Say whether a recording's stage 1 results are there and belong to today's input and options."""
    marker = read_marker(recording.folder, "stage1")
    if marker is None and made_elsewhere(recording.folder):
        return State(True)
    if recording.path is None and marker is not None:
        damage = damaged_output(recording.folder, marker)
        return State(not damage, damage)
    return check_done(recording.folder, "stage1", stage1_parts(config, recording))


def made_elsewhere(folder: Path) -> bool:
    """Tell whether a folder holds stage 1 results of MATLAB or pyflowreg, which leave no marker of ours."""
    status = read_status(folder)
    if (folder / STATUS_FILE).exists() and not status:  # a marker, but damaged: it may have been ours
        return False
    ours = "stage1" in status.get("markers", {}) or status.get("stage1") == "incomplete"
    return not ours and find_video(folder) is not None


def open_session(config: SessionConfig) -> Session:
    """Find the stage 1 results of all recordings, and the centre.

    Raises
    ------
    FileNotFoundError
        There are no recordings.
    ValueError
        Stage 1 of a recording is not done, or belongs to another input or other options, or is damaged; or
        `center` names no recording. The message says which and why.
    """
    recordings = find_compensated(config)
    places = [recording.path or recording.folder for recording in recordings]
    middle_idx = places.index(config.resolve_center_file(places))
    results = []
    for recording in recordings:
        state = stage1_state(config, recording)
        if not state.done:
            raise ValueError(f"{recording.name}: stage 1 has to run first ({state.reason})")
        marker = read_marker(recording.folder, "stage1")
        if marker:
            results.append(Stage1Result(recording, marker["key"], recording.folder / VIDEO_FILE))
        else:
            key = make_key(_parts_made_elsewhere(recording.folder))
            results.append(Stage1Result(recording, key, find_video(recording.folder)))
    return Session(results, middle_idx)


def _parts_made_elsewhere(folder: Path) -> dict[str, Any]:
    """Fingerprint what MATLAB or pyflowreg left; an average that we had to add is none of it."""
    files = [find_video(folder), *(folder / name for name in (MASK_FILE, *FLOW_FILES))]
    if read_marker(folder, "average") is None:
        files.append(folder / AVERAGE_FILE)
    return {file.name: fingerprint(file, "lenient") for file in files if file.is_file()}


def read_averages(session: Session) -> list[np.ndarray]:
    """Read the recordings' temporal averages; those that MATLAB did not make are computed and saved.

    Returns
    -------
    list of ndarray
        float64, (H, W) or (H, W, C), in the recordings' order.

    Raises
    ------
    ValueError
        One differs from the centre's in shape.
    """
    averages = [_read_average(result) for result in session.results]
    expected = averages[session.middle_idx].shape
    for result, average in zip(session.results, averages, strict=True):
        if average.shape != expected:
            raise ValueError(
                f"{result.video}: the average has shape {average.shape}, "
                f"the centre's ({session.center.video}) has {expected}"
            )
    return averages


def _read_average(result: Stage1Result) -> np.ndarray:
    folder = result.recording.folder
    file = folder / AVERAGE_FILE
    ours = read_marker(folder, "average")
    if made_elsewhere(folder) and (not file.is_file() or ours):
        parts = _parts_made_elsewhere(folder)
        if not check_done(folder, "average", parts).done:
            logger.info("%s: stage 1 was made elsewhere; computing its average", result.recording.name)
            average = compute_and_save_temporal_average(result.video, folder)
            mark_done(folder, "average", parts, [file], 0.0)
            return average
    return np.load(file, allow_pickle=False).astype(np.float64, copy=False)


def compute_and_save_temporal_average(compensated_path: Path, output_folder: Path) -> np.ndarray:
    """Average a compensated video over the frames that count and save ``temporal_average.npy``.

    A frame counts when ``idx.hdf`` beside the video marks any of its pixels valid; without that file all
    frames do.

    Parameters
    ----------
    compensated_path
        The video.
    output_folder
        Where the average goes.

    Returns
    -------
    ndarray
        float64, (H, W) or (H, W, C).

    Raises
    ------
    ValueError
        No frame counts.
    """
    mask_path = compensated_path.parent / MASK_FILE
    with open_video(compensated_path) as reader:
        step = frames_per_chunk(reader.shape[1:], reader.dtype)
        counts = np.ones(reader.frame_count, bool)
        if mask_path.is_file():
            counts = np.concatenate([chunk.any(axis=(1, 2)) for chunk in iterate_masks(mask_path)])
            if len(counts) != reader.frame_count:
                raise ValueError(f"{mask_path}: {len(counts)} frames, but {compensated_path} has {reader.frame_count}")
        if not counts.any():
            raise ValueError(f"{compensated_path}: no frame has a valid pixel")
        total = np.zeros(reader.shape[1:], np.float64)
        for first, frames in reader.batches(step):
            total += frames[counts[first : first + len(frames)]].sum(axis=0, dtype=np.float64)
    average = total / counts.sum()
    if average.shape[2] == 1:
        average = average[..., 0]
    save_npy(output_folder / AVERAGE_FILE, average)
    return average
