"""Stage 1: free every recording of motion.

An interrupted recording goes on from its last batch. Its files appear when all frames are done, and then the
marker that makes them count.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyflow.io import open_video
from pyflow.motion.compensate import compensate_recording
from pyflow.motion.options import OFOptions
from pyflow.session.artifacts import claim, mark_done, unmark
from pyflow.session.config import SessionConfig
from pyflow.session.manifest import get_array_task_id as get_array_task_id
from pyflow.session.manifest import task_recordings
from pyflow.session.recordings import Recording, find_recordings, hold_results, relative_path
from pyflow.session.results import (
    AVERAGE_FILE,
    MASK_FILE,
    VIDEO_FILE,
    Progress,
    made_elsewhere,
    stage1_options,
    stage1_parts,
    stage1_state,
)
from pyflow.session.results import (
    compute_and_save_temporal_average as compute_and_save_temporal_average,
)

logger = logging.getLogger(__name__)

META_FILES = ("reference_frame.npy", "reference_frame.mat", "statistics.npz", "statistics.mat")

# What one recording can fail with while the others go on; anything else is a bug and stops the run.
RECORDING_ERRORS = (OSError, ValueError, RuntimeError, MemoryError)


class SessionError(RuntimeError):
    """Recordings failed; `failures` maps their names to the causes."""

    def __init__(self, failures: Mapping[str, BaseException], n_recordings: int) -> None:
        self.failures = dict(failures)
        causes = "; ".join(f"{name}: {error}" for name, error in failures.items())
        super().__init__(f"{len(failures)} of {n_recordings} recordings failed: {causes}")


def run_stage1(
    config: SessionConfig,
    *,
    of_options_override: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Compensate all recordings; those that are done, with today's input and options, are kept.

    Parameters
    ----------
    config
        The session.
    of_options_override
        Flow options that go before those of `config`. The later stages want a configuration that holds them too:
        ``config.with_flow_options(...)``.
    progress
        Called as ``progress(recording, done, total)`` with frames.

    Returns
    -------
    list of Path
        The recordings' result folders, in order.

    Raises
    ------
    FileNotFoundError, ValueError
        Found before any work: `root`, `pattern` or `center` name nothing, or recordings differ in size.
    SessionError
        Recordings failed; the others are done.
    """
    config = config.with_flow_options(of_options_override)
    recordings = find_recordings(config)
    _find_center(config, recordings)
    hold_results(config)
    failures = check_recordings(recordings)
    for recording in recordings:
        if recording.name not in failures:
            try:
                compensate(config, recording, progress=progress)
            except RECORDING_ERRORS as error:
                logger.error("%s failed: %s", recording.name, error)
                failures[recording.name] = error
    if failures:
        raise SessionError(failures, len(recordings))
    return [recording.folder for recording in recordings]


def run_stage1_array(
    config: SessionConfig,
    index: int | None = None,
    *,
    of_options_override: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Compensate the one recording that a job array's task is about.

    Which recording a number means is kept in the session's manifest, see `pyflow.session.manifest`; the first task
    that finds none makes it.

    Parameters
    ----------
    config
        The session.
    index
        The recording's index in the manifest, from 0. None: from the scheduler's environment, see
        `get_array_task_id`.
    of_options_override
        See `run_stage1`.
    progress
        Called as ``progress(recording, done, total)`` with frames.

    Returns
    -------
    Path
        The recording's result folder.

    Raises
    ------
    FileNotFoundError, ValueError
        See `run_stage1` and `read_manifest`; or the index is missing, out of range, or that of a file that is gone.
    SessionError
        The recording failed.
    """
    config = config.with_flow_options(of_options_override)
    recordings, recording = task_recordings(config, index)
    hold_results(config)
    failures = check_recordings([_find_center(config, recordings), recording])
    try:
        if recording.name in failures:
            raise failures[recording.name]
        compensate(config, recording, progress=progress)
    except RECORDING_ERRORS as error:
        raise SessionError({recording.name: error}, 1) from error
    return recording.folder


def _find_center(config: SessionConfig, recordings: list[Recording]) -> Recording:
    files = [recording.path for recording in recordings]
    return recordings[files.index(config.resolve_center_file(files))]


def check_recordings(recordings: list[Recording]) -> dict[str, BaseException]:
    """Find, from headers alone, what would go wrong after hours.

    Returns
    -------
    dict
        Recordings that cannot be opened, and why.

    Raises
    ------
    ValueError
        Two recordings differ in size; the message names both files and sizes.
    """
    failures: dict[str, BaseException] = {}
    first: tuple[Path, tuple[int, ...]] | None = None
    for recording in recordings:
        try:
            with open_video(recording.path) as reader:
                shape = reader.shape[1:]
        except RECORDING_ERRORS as error:
            logger.error("%s cannot be read: %s", recording.path, error)
            failures[recording.name] = error
            continue
        first = first or (recording.path, shape)
        if shape != first[1]:
            raise ValueError(
                f"recordings differ in size: frames (H, W, C) of {first[0]} are {first[1]}, of {recording.path} {shape}"
            )
    return failures


def compensate(config: SessionConfig, recording: Recording, *, progress: Progress | None = None) -> Path:
    """Compensate one recording, unless that is done.

    Parameters
    ----------
    config
        The session.
    recording
        One of `find_recordings`.
    progress
        Called as ``progress(recording, done, total)`` with frames.

    Returns
    -------
    Path
        The recording's result folder.

    Raises
    ------
    BlockingIOError
        Another process works on it.
    OSError, ValueError, RuntimeError
        It cannot be read, or the results cannot be written.
    """
    folder, name = recording.folder, recording.name
    with claim(folder):
        state = stage1_state(config, recording)
        if state.done and config.resume:
            if made_elsewhere(folder):
                logger.warning("%s: keeping the results in %s, which were made elsewhere", name, folder)
            return folder
        logger.info("%s: compensating (%s)", name, state.reason or "resume is off")
        started = time.perf_counter()
        parts = stage1_parts(config, recording)
        options = stage1_options(config, recording)
        unmark(folder, "stage1")
        result = compensate_recording(
            options,
            progress=None if progress is None else lambda done, total: progress(name, done, total),
            resume=config.resume,
        )
        outputs = _outputs(options)
        seconds = time.perf_counter() - started
        mark_done(
            folder,
            "stage1",
            parts,
            outputs,
            seconds,
            input_file=relative_path(recording.path, folder),
            frames=len(result.statistics["mean_disp"]),
            alpha=result.alpha,
            noise_px=result.noise_px,
            problems={str(frame): cause for frame, cause in result.problems.items()},
        )
        logger.info("%s: done in %.1f s", name, seconds)
    return folder


def _outputs(options: OFOptions) -> list[Path]:
    """Return the files that the options ask for, and remove what other options left in an earlier run."""
    folder = options.output_path
    optional = {"w.h5": options.save_w, **dict.fromkeys(META_FILES, options.save_meta_info)}
    for name, wanted in optional.items():
        if not wanted:
            (folder / name).unlink(missing_ok=True)
    return [
        folder / name
        for name in (VIDEO_FILE, MASK_FILE, AVERAGE_FILE, *(n for n, wanted in optional.items() if wanted))
    ]
