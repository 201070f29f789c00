"""The list of recordings that the tasks of a job array share.

Which recording a task's number means must not change between submitting an array and running, or repeating, one of
its tasks. So the list is written once, before the tasks run or by the first that finds none, and from then on only
grows at its end. Numbers count from the manifest's `first`, on every scheduler: what the environment says about a
particular submission (SLURM_ARRAY_TASK_MIN is 3 for ``--array=3``) has no say in it, save that a submission with a
task 0 that finds no manifest makes one that counts from 0: in one that counts from 1 that task had no recording.
"""

import json
import logging
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyflow.session.artifacts import create_json, save_json
from pyflow.session.config import SessionConfig
from pyflow.session.recordings import Recording, discover_input_files, find_recordings, identity, relative_path

logger = logging.getLogger(__name__)

MANIFEST_FILE = "array.json"
FIRST = 1  # SGE and LSF have no task 0

# Where schedulers put the number of a job array's task.
ARRAY_VARIABLES = ("SLURM_ARRAY_TASK_ID", "SGE_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "LSB_JOBINDEX")


@dataclass(frozen=True)
class Manifest:
    """Which recording each task of a job array is about.

    Parameters
    ----------
    path
        The file it is kept in.
    first
        Number of the first task, 0 or 1.
    recordings
        Input files relative to the session's root, in the order of the tasks.
    """

    path: Path
    first: int
    recordings: tuple[str, ...]

    @property
    def last(self) -> int:
        """Number of the last task."""
        return self.first + len(self.recordings) - 1

    def submission(self, session: str | Path, root: Path) -> dict[str, str]:
        """Return, by scheduler, the options that make an array of the tasks, and the command each task runs.

        Where a recording is gone, its task is left out, and so are schedulers whose arrays have no gaps or more than
        one task.

        Parameters
        ----------
        session
            The configuration file.
        root
            Folder with the recordings.
        """
        there = [k for k, name in enumerate(self.recordings, self.first) if (root / name).exists()]
        starts = [k for k in there if k - 1 not in there]
        ends = [k for k in there if k + 1 not in there]
        tasks = ",".join(f"{a}-{b}" if a < b else str(a) for a, b in zip(starts, ends, strict=True))
        command = shlex.quote(f"pyflow-session {shlex.quote(os.path.abspath(session))} --array")
        lines = {
            "SLURM": f"sbatch --array={tasks} --wrap {command}",
            "SGE": f"echo {command} | qsub -t {tasks}",
            "PBS": f"echo {command} | qsub -J {tasks}",
            "LSF": f"bsub -J 'pyflow[{tasks}]' {command}",
        }
        gaps = ("SLURM", "LSF") if len(starts) != 1 else tuple(lines)
        zero = ("SLURM", "PBS") if self.first == 0 else tuple(lines)
        alone = set(lines) - {"PBS"} if len(there) == 1 else lines
        return {name: line for name, line in lines.items() if name in gaps and name in zero and name in alone}


def write_manifest(config: SessionConfig, first: int | None = None) -> Manifest:
    """Write the session's manifest, or add the recordings that came since to the end of the one that is there.

    Parameters
    ----------
    config
        The session.
    first
        Number of the first task, 0 or 1. None: as the manifest that is there has it, else 1.

    Raises
    ------
    FileNotFoundError
        See `discover_input_files`.
    ValueError
        The manifest that is there is malformed, belongs to another session, or counts from another number.
    OSError
        It cannot be written.
    """
    path = config.final_results / MANIFEST_FILE
    found = [relative_path(file, config.root) for file in discover_input_files(config)]
    new = Manifest(path, FIRST if first is None else first, tuple(found))
    if create_json(path, _to_json(config, new)):
        return new
    old = read_manifest(config)
    if first not in (None, old.first):
        raise ValueError(
            f"{path}: its tasks count from {old.first}, asked for {first}; where no array is queued, remove the file"
        )
    added = tuple(name for name in found if name not in old.recordings)
    if not added:
        return old
    grown = Manifest(path, old.first, old.recordings + added)
    save_json(path, _to_json(config, grown))
    return grown


def read_manifest(config: SessionConfig) -> Manifest | None:
    """Read the session's manifest; None where there is none.

    Raises
    ------
    ValueError
        The file is no manifest, or one of another session; the message names the file, what was expected and found.
    OSError
        It cannot be read.
    """
    path = config.final_results / MANIFEST_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a manifest: {error}") from error
    keys = ("session", "first", "recordings")
    if not isinstance(data, dict) or sorted(data) != sorted(keys):
        raise ValueError(f"{path}: not a manifest: expected {', '.join(keys)}, found {_short(data)}")
    if data["session"] != identity(config):
        raise ValueError(f"{path}: made for {_short(data['session'])}, this session is {identity(config)}")
    first, recordings = data["first"], data["recordings"]
    if type(first) is not int or first not in (0, 1):
        raise ValueError(f"{path}: first: expected 0 or 1, found {_short(first)}")
    if not isinstance(recordings, list) or not recordings:
        raise ValueError(f"{path}: recordings: expected a list of file names, found {_short(recordings)}")
    seen: set[str] = set()
    for name in recordings:
        if not isinstance(name, str) or name in seen:
            raise ValueError(f"{path}: recordings: expected file names, each once, found {_short(name)}")
        seen.add(name)
    return Manifest(path, first, tuple(recordings))


def task_recordings(config: SessionConfig, index: int | None = None) -> tuple[list[Recording], Recording]:
    """Return the session's recordings, and the one that this task is about.

    Parameters
    ----------
    config
        The session.
    index
        The recording's index, from 0, in the manifest or, where there is none, in natural order. None: the task's
        number in the scheduler's environment says which; a missing manifest is made.

    Raises
    ------
    FileNotFoundError, ValueError
        See `read_manifest` and `find_recordings`; or the number is missing or out of range, or what it stands for
        is no recording of this session, or gone.
    """
    manifest = read_manifest(config)
    if index is None:
        task = _task(os.environ)
        if manifest is None:
            manifest = write_manifest(config, _first(os.environ))
            logger.info("%s now says which recording each task is about", manifest.path)
        index = get_array_task_id(first=manifest.first)
        if index >= len(manifest.recordings):
            raise ValueError(
                f"{task}: {manifest.path} has tasks {manifest.first} to {manifest.last}; "
                f"'pyflow-session manifest' adds recordings that came since"
            )
    recordings = find_recordings(config)
    if manifest is None:
        names = [relative_path(recording.path, config.root) for recording in recordings]
    else:
        names = list(manifest.recordings)
    if not 0 <= index < len(names):
        raise ValueError(f"index {index} is out of range: there are {len(names)} recordings, counted from 0")
    for recording in recordings:
        if relative_path(recording.path, config.root) == names[index]:
            return recordings, recording
    raise FileNotFoundError(
        f"{manifest.path}: {names[index]!r} is not, or no longer, among the files that match {config.pattern!r} "
        f"in {config.root}"
    )


def get_array_task_id(environment: Mapping[str, str] = os.environ, *, first: int = FIRST) -> int:
    """Read the number of a job array's task from the environment of SLURM, SGE, PBS, Torque or LSF.

    Parameters
    ----------
    environment
        Variables and their values.
    first
        Number of the first task, on every scheduler.

    Returns
    -------
    int
        The task's index, counted from 0.

    Raises
    ------
    ValueError
        This is no task of a job array, or its number is less than `first`.
    """
    name, number = _task(environment).split("=")
    if int(number) < first:
        raise ValueError(
            f"{name}={number}, but tasks count from {first}; for an array that starts at 0, "
            f"'pyflow-session manifest SESSION --first 0' before it is submitted; or give --index, from 0"
        )
    return int(number) - first


def _first(environment: Mapping[str, str]) -> int:
    """Return what the tasks of a first submission count from: 0 where SLURM says that one of them has that number."""
    return 0 if _task(environment).startswith("SLURM") and environment.get("SLURM_ARRAY_TASK_MIN") == "0" else FIRST


def _task(environment: Mapping[str, str]) -> str:
    for name in ARRAY_VARIABLES:
        value = environment.get(name, "")
        # outside arrays SGE says "undefined" and LSF 0
        if value.isascii() and value.isdecimal() and (name, value) != ("LSB_JOBINDEX", "0"):
            return f"{name}={value}"
    raise ValueError(f"not a task of a job array: none of {', '.join(ARRAY_VARIABLES)} is set; give --index")


def _to_json(config: SessionConfig, manifest: Manifest) -> dict[str, Any]:
    data = asdict(manifest)
    del data["path"]
    return {"session": identity(config), **data, "recordings": list(manifest.recordings)}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
