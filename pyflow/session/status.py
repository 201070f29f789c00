"""How far a stage is in a folder, in the words that people are shown."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyflow.layout import CHECKPOINT_FILE
from pyflow.session.artifacts import State, read_failure, read_marker, read_status
from pyflow.session.claims import holder


@dataclass(frozen=True)
class Standing:
    """How far a stage is (``done``, ``stale``, ``partial``, ``running``, ``failed``, ``waits``, ``to do``), and why."""

    word: str
    why: str = ""


def standing(folder: Path, stage: str, state: State) -> Standing:
    """Say how far a stage is.

    Parameters
    ----------
    folder
        Where its results are.
    stage
        Its name in ``status.json``.
    state
        Whether it is done, and why not.
    """
    if state.done:
        return Standing("done", state.reason)
    if state.reason.startswith("waits"):
        return Standing("waits", state.reason)
    if who := holder(folder):
        return Standing("running", f"{who} works on it")
    failure = read_failure(folder, stage)
    if failure or state.stuck:
        return Standing("failed", failure or state.reason)
    if stage == "stage1" and (frames := frames_done(folder)):
        return Standing("partial", f"{state.reason}: {frames} frames are done, and a run goes on from there")
    outdated = read_status(folder).get(stage) == "outdated"
    return Standing("stale" if outdated or read_marker(folder, stage) else "to do", state.reason)


def frames_done(folder: Path) -> int:
    """Return how many frames of a recording an interrupted run saved; 0 without one, or where it is damaged."""
    try:
        with np.load(folder / CHECKPOINT_FILE, allow_pickle=False) as saved:
            return int(saved["frames_done"])
    except Exception:  # a damaged file raises whatever its bytes lead to; the next run throws it away
        return 0
