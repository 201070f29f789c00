"""What one stage leaves on disk for the next, and the keys that tie them together."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyflow.io import open_video
from pyflow.motion.options import OFOptions
from pyflow.session.artifacts import SCHEMA_VERSION, State, check_done, damaged_output, fingerprint, make_key, mark_done
from pyflow.session.artifacts import read_marker, read_status, save_npy
from pyflow.session.config import SessionConfig
from pyflow.session.recordings import Recording, find_recordings, find_video

logger = logging.getLogger(__name__)

VIDEO_FILE = "compensated.hdf5"
MASK_FILE = "idx.hdf"
AVERAGE_FILE = "temporal_average.npy"
FIELD_FILE = "w_to_reference.npz"

# progress(recording, done, total), in frames
Progress = Callable[[str, int, int], None]

_CHUNK_BYTES = 64 << 20


@dataclass(frozen=True)
class Stage1Result:
    """A recording after stage 1.

    Parameters
    ----------
    recording
        Which one.
    key
        Changes with the result.
    video
        The compensated video.
    average
        Its temporal average, float64 (H, W) or (H, W, C).
    """

    recording: Recording
    key: str
    video: Path
    average: np.ndarray


@dataclass(frozen=True)
class Session:
    """All recordings after stage 1; `middle_idx` is the centre's index, from 0."""

    results: list[Stage1Result]
    middle_idx: int

    @property
    def center(self) -> Stage1Result:
        """The recording whose frame is everyone's."""
        return self.results[self.middle_idx]


def stage1_options(config: SessionConfig, recording: Recording, output_path: Path) -> OFOptions:
    """Return what stage 1 hands to `compensate_recording`."""
    return OFOptions(
        **config.flow_options,
        input_file=recording.path,
        output_path=output_path,
        output_format="HDF5",
        save_valid_idx=True,
        n_workers=config.n_threads,
    )


def stage1_parts(config: SessionConfig, recording: Recording) -> dict[str, Any]:
    """Return what a recording's stage 1 key is made from."""
    return {
        "schema": SCHEMA_VERSION["stage1"],
        "input": fingerprint(recording.path),
        "options": stage1_options(config, recording, recording.folder).result_fields(),
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
    """Tell whether a folder holds a finished stage 1 of MATLAB or pyflowreg, which leave no marker of ours."""
    status = read_status(folder)
    return "stage1" not in status.get("markers", {}) and status.get("stage1") != "incomplete" and bool(find_video(folder))


def read_stage1(config: SessionConfig, recording: Recording) -> Stage1Result:
    """Open a recording's stage 1 results.

    Of results made elsewhere the average is computed and saved where it is missing.

    Raises
    ------
    FileNotFoundError
        Stage 1 has not been run.
    ValueError
        Its results are damaged or belong to another input or other options; the message says which.
    """
    state = stage1_state(config, recording)
    if not state.done:
        raise ValueError(f"{recording.name}: stage 1 has to run first ({state.reason})")
    marker = read_marker(recording.folder, "stage1")
    video = find_video(recording.folder)
    if marker is not None:
        average = np.load(recording.folder / AVERAGE_FILE, allow_pickle=False)
        return Stage1Result(recording, marker["key"], video, average)

    parts = {"video": fingerprint(video, mtime=False)}
    for name in (MASK_FILE, "w.hdf", "w.h5"):
        if (recording.folder / name).is_file():
            parts[name] = fingerprint(recording.folder / name, mtime=False)
    average_file = recording.folder / AVERAGE_FILE
    if average_file.is_file() and read_marker(recording.folder, "average") is None:
        parts[AVERAGE_FILE] = fingerprint(average_file, mtime=False)
        average = np.load(average_file, allow_pickle=False)
    elif check_done(recording.folder, "average", parts).done:
        average = np.load(average_file, allow_pickle=False)
    else:
        logger.info("%s: stage 1 was made elsewhere; computing its average", recording.name)
        average = compute_and_save_temporal_average(video, recording.folder)
        mark_done(recording.folder, "average", parts, [average_file], 0.0)
    return Stage1Result(recording, make_key(parts), video, average)


def read_session(config: SessionConfig) -> Session:
    """Open the stage 1 results of all recordings and find the centre.

    Raises
    ------
    FileNotFoundError, ValueError
        See `read_stage1`, `SessionConfig.resolve_center_file`; or averages differ in shape.
    """
    recordings = find_recordings(config)
    places = [recording.path or recording.folder for recording in recordings]
    middle_idx = places.index(config.resolve_center_file(places))
    results = [read_stage1(config, recording) for recording in recordings]
    center = results[middle_idx]
    for result in results:
        if result.average.shape != center.average.shape:
            raise ValueError(
                f"{result.video}: average of shape {result.average.shape}, "
                f"but the centre's ({center.video}) has {center.average.shape}"
            )
    return Session(results, middle_idx)


def read_field(folder: Path) -> np.ndarray:
    """Read a recording's displacement into the centre's frame, (H, W, 2) float32, pixels, backward."""
    with np.load(folder / FIELD_FILE, allow_pickle=False) as data:
        return np.stack([data["u"], data["v"]], axis=-1)


def compute_and_save_temporal_average(compensated_path: Path, output_folder: Path) -> np.ndarray:
    """Average a compensated video over the frames that count and save ``temporal_average.npy``.

    A frame counts when ``idx.hdf`` beside the video marks any of its pixels valid; without that file all frames do.

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


def iterate_masks(path: Path) -> Iterator[np.ndarray]:
    """Read the per-frame masks in an ``idx.hdf``, some frames at a time.

    The data set is ``idx``; where there is none, the file's only one (pyflowreg calls it ``ch1``). Any value but zero is valid.

    Yields
    ------
    ndarray
        (n, H, W) bool.

    Raises
    ------
    ValueError
        The file cannot be read or holds no single stack of masks.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file: {error}") from error
    with file:
        name = "idx" if "idx" in file else next(iter(file), "idx")
        masks = file.get(name)
        if not isinstance(masks, h5py.Dataset) or masks.ndim != 3:
            raise ValueError(f"{path}: expected a data set idx of shape (T, H, W), found {', '.join(file) or 'nothing'}")
        step = frames_per_chunk(masks.shape[1:], masks.dtype)
        for first in range(0, len(masks), step):
            yield masks[first : first + step] != 0


def frames_per_chunk(frame_shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Return how many frames make a chunk that is small against memory and large against overheads."""
    return max(1, _CHUNK_BYTES // max(1, int(np.prod(frame_shape)) * np.dtype(dtype).itemsize))
