"""Stage 1: free every recording of motion.

Each recording is compensated in a working folder inside its results' folder, which keeps the checkpoints of an interrupted run. Only
when everything is there do the results replace those of an earlier run, and the marker comes last.
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from pyflow.io import open_video
from pyflow.motion.compensate import compensate_recording
from pyflow.session.artifacts import claim, mark_done, replacing, unmark
from pyflow.session.config import SessionConfig
from pyflow.session.recordings import Recording, discover_input_files, find_recordings
from pyflow.session.results import AVERAGE_FILE, MASK_FILE, VIDEO_FILE, Progress, compute_and_save_temporal_average
from pyflow.session.results import made_elsewhere, stage1_options, stage1_parts, stage1_state

logger = logging.getLogger(__name__)

WORK_FOLDER = "partial"

# What one recording can fail with while the others go on; anything else is a bug and stops the run.
RECORDING_ERRORS = (OSError, ValueError, RuntimeError, MemoryError)


class SessionError(RuntimeError):
    """Recordings failed; `failures` maps their names to the causes."""

    def __init__(self, failures: Mapping[str, BaseException], n_recordings: int) -> None:
        self.failures = dict(failures)
        causes = "; ".join(f"{name}: {error}" for name, error in failures.items())
        super().__init__(f"{len(failures)} of {n_recordings} recordings failed: {causes}")


def run_stage1(config: SessionConfig, *, progress: Progress | None = None) -> list[Path]:
    """Compensate all recordings; those that are done, with today's input and options, are kept.

    Parameters
    ----------
    config
        The session.
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
    recordings = find_recordings(config)
    failures = check_recordings(config, recordings)
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


def run_stage1_array(config: SessionConfig, index: int | None = None, *, progress: Progress | None = None) -> Path:
    """Compensate the one recording that a job array's task is about.

    The list of recordings is frozen when the array's first task starts, so that an input file that appears later does not shift
    the indices.

    Parameters
    ----------
    config
        The session.
    index
        The recording's index, from 0. None: from the scheduler's environment, see `get_array_task_id`.
    progress
        Called as ``progress(recording, done, total)`` with frames.

    Returns
    -------
    Path
        The recording's result folder.

    Raises
    ------
    FileNotFoundError, ValueError
        See `run_stage1`; or the index is missing or out of range.
    SessionError
        The recording failed.
    """
    if index is None:
        index = get_array_task_id()
    recordings = find_recordings(config, _frozen_files(config))
    if not 0 <= index < len(recordings):
        raise ValueError(f"index {index} is out of range: there are {len(recordings)} recordings, counted from 0")
    recording = recordings[index]
    failures = check_recordings(config, recordings)
    try:
        if recording.name in failures:
            raise failures[recording.name]
        compensate(config, recording, progress=progress)
    except RECORDING_ERRORS as error:
        raise SessionError({recording.name: error}, 1) from error
    return recording.folder


def get_array_task_id(environment: Mapping[str, str] = os.environ) -> int:
    """Read a job array's index, counted from 0, from the environment of SLURM, SGE, PBS, Torque or LSF.

    Schedulers count from 1 unless told otherwise; a SLURM array that starts at 0 (``--array=0-9``) counts from 0.

    Raises
    ------
    ValueError
        This is no task of a job array.
    """
    for name in ("SLURM_ARRAY_TASK_ID", "SGE_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "LSB_JOBINDEX"):
        value = environment.get(name, "")
        if value.isdecimal() and not (name == "LSB_JOBINDEX" and value == "0"):  # LSF sets 0 outside arrays, SGE "undefined"
            first = 0 if name == "SLURM_ARRAY_TASK_ID" and environment.get("SLURM_ARRAY_TASK_MIN") == "0" else 1
            if int(value) < first:
                raise ValueError(f"{name}={value}: expected an index of {first} or more; or give --index, counted from 0")
            return int(value) - first
    raise ValueError("not a task of a job array: none of SLURM_ARRAY_TASK_ID, SGE_TASK_ID, PBS_ARRAY_INDEX, PBS_ARRAYID, "
                     "LSB_JOBINDEX is set; give --index")


def _frozen_files(config: SessionConfig) -> list[Path]:
    """Return the input files as the first task of this job array found them."""
    names = ("SLURM_ARRAY_JOB_ID", "JOB_ID", "PBS_JOBID", "LSB_JOBID")
    job = next((os.environ[name] for name in names if os.environ.get(name)), None)
    if job is None:
        return discover_input_files(config)
    job = re.sub(r"\[.*?\]", "", job)  # PBS puts the task's index here
    manifest = config.output_root / f"array-{re.sub(r'[^A-Za-z0-9.-]', '_', job)}.json"
    if not manifest.exists():
        with replacing(manifest) as temporary:
            pass
    return [config.root / file for file in json.loads(manifest.read_text(encoding="utf-8"))]


def check_recordings(config: SessionConfig, recordings: list[Recording]) -> dict[str, BaseException]:
    """Find, from headers alone, what would go wrong after hours.

    Returns
    -------
    dict
        Recordings that cannot be opened, and why.

    Raises
    ------
    ValueError
        The centre is not among the recordings, or two differ in size; the message names both.
    """
    config.resolve_center_file([recording.path or recording.folder for recording in recordings])
    failures: dict[str, BaseException] = {}
    first: tuple[Path, tuple[int, ...]] | None = None
    for recording in recordings:
        if recording.path is None:
            continue
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
                f"recordings differ in size: {first[0]} has frames (H, W, C) = {first[1]}, {recording.path} has {shape}"
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
        if state.done and (config.resume or recording.path is None):
            if made_elsewhere(folder):
                logger.warning("%s: keeping the results in %s, which were made elsewhere", name, folder)
            return folder
        if recording.path is None:
            raise ValueError(f"{name}: {state.reason}, and its input file is not there to make it again")
        logger.info("%s: %s", name, state.reason or "resume is off")
        started = time.perf_counter()
        parts = stage1_parts(config, recording)
        work = folder / WORK_FOLDER
        if not config.resume:
            shutil.rmtree(work, ignore_errors=True)
        compensate_recording(
            stage1_options(config, recording, work),
            progress=None if progress is None else lambda done, total: progress(name, done, total),
        )
        compute_and_save_temporal_average(work / VIDEO_FILE, work)
        outputs = _move_results(work, folder)
        mark_done(folder, "stage1", parts, outputs, time.perf_counter() - started, input_file=recording.path.name)
        shutil.rmtree(work)
    return folder


def _move_results(work: Path, folder: Path) -> list[Path]:
    missing = [name for name in (VIDEO_FILE, MASK_FILE, AVERAGE_FILE) if not (work / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{work}: {', '.join(missing)} was not written")
    unmark(folder, "stage1", "stage2")
    files = [file for file in sorted(work.iterdir()) if not file.name.startswith(".")]
    for file in files:
        os.replace(file, folder / file.name)
    return [folder / file.name for file in files]
