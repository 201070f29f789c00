"""Run the three stages in order, say what each would do, and look at what they left."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyflow.session.artifacts import STAGES, State, find_damage, known_stages, lost_status, read_marker
from pyflow.session.config import SessionConfig
from pyflow.session.dask import open_cluster, run_stage1_dask
from pyflow.session.recordings import find_center, find_compensated
from pyflow.session.report.page import given_of, save_recording_report, save_session_report
from pyflow.session.results import Progress, open_session, stage1_states
from pyflow.session.stage1_compensate import run_stage1, run_stage1_array
from pyflow.session.stage2_between_avgs import alignment_line, run_stage2
from pyflow.session.stage3_valid_mask import run_stage3, session_state
from pyflow.session.status import Standing, standing


def compensate_all(config: SessionConfig, *, progress: Progress | None = None) -> list[Path]:
    """Run stage 1 of all recordings, in this process or, with scheduler ``"dask"``, on workers of this machine.

    Returns
    -------
    list of Path
        The recordings' result folders, in order.

    Raises
    ------
    FileNotFoundError, ValueError, SessionError
        See `run_stage1`.
    ImportError
        Of scheduler ``"dask"``: the extra ``cluster`` is not installed.
    """
    if config.scheduler != "dask":
        return run_stage1(config, progress=progress)
    with open_cluster(config) as client:
        return run_stage1_dask(config, client, progress=progress)


def run_session(config: SessionConfig, *, progress: Progress | None = None) -> np.ndarray | None:
    """Run all stages; what is done, with today's inputs and options, is kept.

    Parameters
    ----------
    config
        The session. With scheduler ``"array"`` only stage 1 of this task's recording runs; stages 2 and 3
        need all tasks to have ended. With ``"dask"`` stage 1 runs on workers of this machine; a script that asks for
        it does so below ``if __name__ == "__main__":``, as for all that starts processes.
    progress
        Called as ``progress(recording, done, total)`` with frames.

    Returns
    -------
    ndarray or None
        (H, W) bool: the pixels that are valid in every recording; None with scheduler ``"array"``.

    Raises
    ------
    FileNotFoundError, ValueError
        The inputs are not as the configuration says; see the stages.
    SessionError
        Recordings failed in stage 1.
    ImportError
        Of scheduler ``"dask"``: the extra ``cluster`` is not installed.
    """
    if config.scheduler == "array":
        run_stage1_array(config, progress=progress)
        return None
    compensate_all(config, progress=progress)
    run_stage2(config)
    return run_stage3(config, progress=progress)


NOT_DONE = "not done"


@dataclass(frozen=True)
class RecordingState:
    """How far a recording is, the verdict on its alignment, and what the user has to know of that, if anything."""

    name: str
    stage1: State
    stage2: State
    alignment: str = ""
    doubt: str = ""


def session_status(config: SessionConfig) -> tuple[list[RecordingState], State]:
    """Say what a run would do, and why, without doing it.

    Files are opened only where their size or their time of change is not as it was, or where `fingerprint` asks for it;
    a run looks closer.

    Returns
    -------
    recordings : list of RecordingState
        In order.
    stage3 : State
        Of the session.

    Raises
    ------
    FileNotFoundError, ValueError
        The inputs are not as the configuration says.
    """
    recordings = find_compensated(config)
    find_center(config, recordings)
    first = stage1_states(config, recordings, glance=True)
    if not all(state.done for state in first):
        waiting = State(False, "waits for stage 1 of all recordings")
        return [RecordingState(r.name, state, waiting) for r, state in zip(recordings, first, strict=True)], waiting
    session = open_session(config, (recordings, first))
    second = [session.field_state(result, glance=True) for result in session.results]
    if all(state.done for state in second):
        third = session_state(session, glance=True)
    else:
        third = State(False, "waits for stage 2 of all recordings")
    states = []
    for result, before, state in zip(session.results, first, second, strict=True):
        verdict = session.alignment(result).get("verdict", "") if state.done else ""
        doubt = alignment_line(session, result) if state.done else ""
        states.append(RecordingState(result.recording.name, before, state, verdict, doubt))
    return states, third


def session_standings(config: SessionConfig) -> tuple[dict[str, dict[str, Standing]], Standing]:
    """Say how far each recording and the session are, in people's words.

    Returns
    -------
    recordings : dict
        By name, in order: how far ``"stage 1"`` and ``"stage 2"`` are, and what came of the ``"alignment"``.
    stage3 : Standing
        Of the session.

    Raises
    ------
    FileNotFoundError, ValueError
        The inputs are not as the configuration says.
    """
    states, third = session_status(config)
    recordings = {
        state.name: {
            "stage 1": standing(config.output_root / state.name, "stage1", state.stage1),
            "stage 2": standing(config.output_root / state.name, "stage2", state.stage2),
            "alignment": Standing(state.alignment, state.doubt),
        }
        for state in states
    }
    return recordings, standing(config.final_results, "stage3", third)


def report_session(config: SessionConfig, names: Sequence[str] = ()) -> list[Path]:
    """Write the session's report, or, in their own folders, those of some recordings.

    Parameters
    ----------
    config
        The session.
    names
        Recordings, by the names of their folders or files; none: the session.

    Returns
    -------
    list of Path
        The reports; empty where jinja2 or matplotlib is not installed, which is logged.

    Raises
    ------
    FileNotFoundError, ValueError
        The inputs are not as the configuration says, or there is no such recording.
    OSError
        A report cannot be written.
    """
    recordings = find_compensated(config)
    known = {name: r for r in recordings for name in (r.name, *((r.path.name, str(r.path)) if r.path else ()))}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no recording {unknown[0]!r}; there are {', '.join(r.name for r in recordings)}")
    standings, third = session_standings(config)
    if names:
        chosen = dict.fromkeys(known[name] for name in names)
        reports = [save_recording_report(given_of(config, r, standings[r.name])) for r in chosen]
    else:
        reports = [save_session_report(config, standings, third)]
    return [report for report in reports if report is not None]


def verify_session(config: SessionConfig) -> list[str]:
    """Compare all content of a session's results with what was written.

    Returns
    -------
    list of str
        What is not as it was written or not there, one line each; empty where all is well.

    Raises
    ------
    FileNotFoundError, ValueError
        The inputs are not as the configuration says.
    """
    expected = [(recording.folder, STAGES[:2]) for recording in find_compensated(config)]
    expected.append((config.final_results, STAGES[2:]))
    problems = []
    for folder, stages in expected:
        if lost := lost_status(folder):
            problems.append(f"{folder}: {lost}")
            continue
        missing = [f"stage {stage[-1]}" for stage in stages if read_marker(folder, stage) is None]
        problems += [f"{folder}: {' and '.join(missing)} {NOT_DONE}"] if missing else []
        for stage in sorted(known_stages(folder)):
            marker = read_marker(folder, stage) or {}
            problems += [f"{folder}: {damage}" for damage in find_damage(folder, marker, deep=True)]
    return problems
