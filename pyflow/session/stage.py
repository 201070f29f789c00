"""Run a step in the one way there is: claim its folder, look whether it is done, and if not unmark, run and mark it.

Where steps run, one after the other, in threads or as tasks of a job array, is decided by who calls `execute`.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyflow.io.atomic import remove_leftovers
from pyflow.session.artifacts import State, check_done, mark_done, note_failure, unmark
from pyflow.session.claims import claim

logger = logging.getLogger(__name__)

# What one recording can fail with while the others go on; anything else is a bug and stops the run.
RECORDING_ERRORS = (OSError, ValueError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Stage:
    """A step that leaves files in a folder.

    Parameters
    ----------
    name
        Its name in the folder's ``status.json``.
    title
        Its name for people.
    folder
        Where the results go.
    what
        What it is about, for messages: a recording, or the session.
    parts
        Returns what its key is made from. Called when the folder is claimed: an input may change while we wait.
    run
        Makes the outputs and returns facts for the marker, JSON-able; under ``"parts"`` what the key is made from,
        where only the run itself tells.
    outputs
        The files with its results.
    writes
        Those that `run` writes; None for all.
    voids
        Stages of the same folder that are made from this one's outputs.
    check
        Says of the parts whether it is done; None to compare them with the marker.
    """

    name: str
    title: str
    folder: Path
    what: str
    parts: Callable[[], dict[str, Any]]
    run: Callable[[], dict[str, Any]]
    outputs: tuple[Path, ...]
    writes: tuple[Path, ...] | None = None
    voids: tuple[str, ...] = ()
    check: Callable[[dict[str, Any]], State] | None = None

    def state(self, parts: dict[str, Any], *, deep: bool = False) -> State:
        """Say whether the results are there and were made from `parts`."""
        return check_done(self.folder, self.name, parts, deep=deep) if self.check is None else self.check(parts)


def execute(stage: Stage, *, resume: bool = True, deep: bool = False) -> State:
    """Run a stage unless it is done; where another process runs it, wait for that one.

    What it fails with, of `RECORDING_ERRORS`, is noted in its folder.

    Parameters
    ----------
    stage
        The stage.
    resume
        False runs it in any case.
    deep
        Look at all content of the outputs to decide whether it is done.

    Returns
    -------
    State
        As it was found; `done` if nothing had to be run.

    Raises
    ------
    OSError, RuntimeError
        See `claim`; the marker cannot be written; and whatever the stage's `run` raises.
    """
    with claim(stage.folder) as check_claim:
        parts = stage.parts()
        state = stage.state(parts, deep=deep)
        if state.done and resume:
            return state
        why = "resume is off" if state.done else state.reason
        logger.info("%s: %s runs (%s)", stage.what, stage.title, why)
        started = time.perf_counter()
        writes = stage.outputs if stage.writes is None else stage.writes
        remove_leftovers(stage.folder)
        unmark(stage.folder, stage.name, writes, also=stage.voids)
        try:
            details = stage.run()
        except RECORDING_ERRORS as error:
            note_failure(stage.folder, stage.name, error)
            raise
        check_claim()  # a marker would vouch for files that another process is writing
        seconds = time.perf_counter() - started
        parts = details.pop("parts", parts)
        mark_done(stage.folder, stage.name, parts, stage.outputs, seconds, writes=writes, **details)
        logger.info("%s: %s done in %.1f s", stage.what, stage.title, seconds)
    return state
