"""Stage 1: free every recording of motion.

An interrupted recording goes on from its last batch. Its files appear when all frames are done, and then the
marker that makes them count.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from traceback import walk_tb
from typing import Any

from pyflow.io import open_video
from pyflow.layout import (
    AVERAGE_FILE,
    FLOW_FILE,
    FLOW_FILES,
    MASK_FILE,
    META_FILES,
    REFERENCES_FILES,
    VALID_FILES,
    VIDEO_FILE,
    find_video,
    is_ours,
    video_files,
)
from pyflow.motion.compensate import compensate_recording
from pyflow.session.artifacts import note_failure
from pyflow.session.claims import claim, watch
from pyflow.session.config import SessionConfig
from pyflow.session.elsewhere import adoption, made_elsewhere
from pyflow.session.keys import stage1_options, stage1_parts
from pyflow.session.manifest import task_recordings
from pyflow.session.recordings import Recording, find_center, find_recordings, hold_results, stored_path
from pyflow.session.results import Progress
from pyflow.session.stage import RECORDING_ERRORS, Stage, execute

logger = logging.getLogger(__name__)


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
    recordings, failures = prepare(config)
    for recording in recordings:
        if recording.name not in failures:
            failure = _try(config, recording, progress)
            if failure is not None:
                failures[recording.name] = failure
    if failures:
        raise SessionError(failures, len(recordings))
    return [recording.folder for recording in recordings]


def prepare(config: SessionConfig) -> tuple[list[Recording], dict[str, BaseException]]:
    """Find the recordings, and what is wrong before anything is computed.

    Returns
    -------
    recordings : list of Recording
        In order.
    failures : dict
        Names of those that cannot be opened, and why.

    Raises
    ------
    FileNotFoundError, ValueError
        See `run_stage1`.
    """
    recordings = find_recordings(config)
    find_center(config, recordings)
    failures = check_recordings(config, recordings)
    hold_results(config)
    for recording in recordings:
        if recording.name in failures:
            _note(recording, failures[recording.name])
    return recordings, failures


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
    failures = check_recordings(config, [find_center(config, recordings), recording])
    hold_results(config)
    if recording.name in failures:
        _note(recording, failures[recording.name])
    failure = failures.get(recording.name) or _try(config, recording, progress)
    if failure is not None:
        raise SessionError({recording.name: failure}, 1) from failure
    return recording.folder


def _try(config: SessionConfig, recording: Recording, progress: Progress | None) -> BaseException | None:
    """Compensate a recording; return what it failed with, if the others can go on."""
    raised: list[BaseException] = []

    def watched(name: str, done: int, total: int) -> None:
        try:
            progress(name, done, total)
        except BaseException as error:
            raised.append(error)
            raise

    try:
        compensate(config, recording, progress=None if progress is None else watched)
    except RECORDING_ERRORS as error:
        if error in raised:  # the caller's own: it wants the run to stop
            raise
        # What our code says on purpose speaks for itself; what comes out of a library is likely to be a bug of ours.
        logger.error("%s failed: %s", recording.name, error, exc_info=None if _is_expected(error) else error)
        return error
    return None


def _note(recording: Recording, error: BaseException) -> None:
    """Note in a recording's folder why it cannot be opened, unless another process works there."""
    with suppress(OSError), claim(recording.folder, wait_s=0):
        note_failure(recording.folder, "stage1", error)


def _is_expected(error: BaseException) -> bool:
    """Tell whether an error comes from the outside or was raised by a statement of ours."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    ours = frame.f_globals.get("__name__", "").startswith("pyflow.")
    return ours or isinstance(error, OSError | MemoryError)


def check_recordings(config: SessionConfig, recordings: list[Recording]) -> dict[str, BaseException]:
    """Find, from headers alone, what would go wrong after hours.

    Returns
    -------
    dict
        Recordings that cannot be opened, and why.

    Raises
    ------
    ValueError
        Recordings differ in size; the message names all files and sizes.
    """
    failures: dict[str, BaseException] = {}
    files_of: dict[tuple[int, ...], list[Path]] = {}
    for recording in recordings:
        try:
            options = stage1_options(config, recording)
            with open_video(options.input_file, options.reader) as reader:
                shape = reader.shape[1:]
        except RECORDING_ERRORS as error:
            logger.error("%s cannot be read: %s", recording.path, error)
            failures[recording.name] = error
            continue
        files_of.setdefault(shape, []).append(recording.path)
    if len(files_of) > 1:
        sizes = "; ".join(f"{shape} of {', '.join(map(str, files))}" for shape, files in files_of.items())
        raise ValueError(f"recordings differ in size: frames (H, W, C) are {sizes}")
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
    OSError, ValueError, RuntimeError
        It cannot be read, or the results cannot be written.
    """
    theirs = made_elsewhere(recording.folder)
    if config.resume and theirs:
        stage = adoption(config, recording)
        state = stage.state(stage.parts())
        if state.stuck:
            raise ValueError(state.reason)
    else:
        stage = _compensation(config, recording, progress, theirs)
    execute(stage, resume=config.resume, deep=config.deep)
    return recording.folder


def _compensation(config: SessionConfig, recording: Recording, progress: Progress | None, theirs: bool) -> Stage:
    """Return the stage that compensates a recording; `theirs`: its folder holds finished results of others."""
    options = stage1_options(config, recording)
    names = [VIDEO_FILE, MASK_FILE, AVERAGE_FILE]
    names += [FLOW_FILE] if options.save_w else []
    names += META_FILES if options.save_meta_info else []
    names += REFERENCES_FILES if options.save_meta_info and options.n_references > 1 else []
    names += VALID_FILES if options.save_valid_mask else []

    def run() -> dict[str, Any]:
        if not theirs:
            _remove_unfinished(recording.folder)
        check_claim = watch(recording.folder)

        def frame_done(done: int, total: int) -> None:
            check_claim()
            if progress is not None:
                progress(recording.name, done, total)

        result = compensate_recording(options, progress=frame_done, resume=config.resume)
        # Those of other options go, even where their marker was lost.
        for name in {*FLOW_FILES, *META_FILES, *REFERENCES_FILES, *VALID_FILES}.difference(names):
            (recording.folder / name).unlink(missing_ok=True)
        return {
            "input_file": stored_path(recording.path, recording.folder),
            "frames": len(result.statistics["mean_disp"]),
            "alpha": result.alpha,
            "noise_px": result.noise_px,
            "period": result.period,
            "bidiphase": result.bidiphase,
            "problems": {str(frame): cause for frame, cause in result.problems.items()},
        }

    return Stage(
        "stage1",
        "stage 1",
        recording.folder,
        recording.name,
        lambda: stage1_parts(config, recording),
        run,
        tuple(recording.folder / name for name in names),
    )


def _remove_unfinished(folder: Path) -> None:
    """Remove videos that do not say that they are ours: only the status that is gone now told that they do not count.

    The next run, if this one is interrupted, would take them for finished and made elsewhere.
    """
    while (video := find_video(folder)) is not None and not is_ours(video):
        for file in video_files(video):
            file.unlink()
