"""Files that can be trusted: written whole or not at all, and marked with what they were made from.

A stage is done in a folder when the folder's ``status.json`` holds a marker whose key is today's and whose
outputs are as they were when the marker was written. The key is a hash over *parts*: the stage's version, the
options that can change its result, the fingerprints of its inputs and the keys of the stages before. The
parts are stored with it, so a re-run can say what changed.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np

from pyflow import __version__
from pyflow.io.atomic import remove_anything, replacing
from pyflow.io.readers.formats import is_zarr
from pyflow.layout import STATUS_FILE, content_hash, fingerprint
from pyflow.session.differences import difference

logger = logging.getLogger(__name__)

STAGES = ("stage1", "stage2", "stage3")

# How the names of statuses begin that tell of one stage only.
_STATUS_OF_ONE = "status_"
# So many bytes a recording's status has at most, unless thousands of its frames were marked.
_SMALL_STATUS = 1 << 15


def make_key(parts: dict[str, Any]) -> str:
    """Hash a JSON-able mapping; the order of its keys does not matter."""
    text = json.dumps(parts, sort_keys=True, allow_nan=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


# Why a stage without a marker is not done, by what its status says instead.
_UNFINISHED = {
    "incomplete": "begun, but not finished",
    "outdated": "what it is made from was made anew",
    "done": "nothing says what it was made from",
}


@dataclass(frozen=True)
class State:
    """Says whether a stage has to run in a folder, and why.

    Parameters
    ----------
    done
        The results are complete and belong to today's inputs and options.
    reason
        Why not; of results that are done but made elsewhere, what they rest on; else empty.
    stuck
        No run can mend it: the reason says what somebody has to do.
    key
        The marker's, of results that are done and ours.
    """

    done: bool
    reason: str = ""
    stuck: bool = False
    key: str = field(default="", compare=False)


def status_name(stage: str) -> str:
    """Return the name of the file with a stage's status.

    Aligned videos have one each: one for all would be written anew, with all that it holds, for every video.
    """
    return STATUS_FILE if stage in STAGES else f"{_STATUS_OF_ONE}{stage}.json"


def known_stages(folder: Path) -> set[str]:
    """Return the names of the stages that a folder's statuses tell of."""
    found = [_read_status(folder / STATUS_FILE), *map(_read_status, folder.glob(f"{_STATUS_OF_ONE}*.json"))]
    return {stage for status in found for group in ("markers", "written") for stage in status.get(group, {})}


def read_status(folder: Path, stage: str = STAGES[0]) -> dict[str, Any]:
    """Read the status in a folder that tells of a stage; empty where it is absent, unreadable or not about a stage."""
    return _read_status(folder / status_name(stage))


def lost_status(folder: Path) -> str:
    """Say what is wrong with a folder's status that is there and tells nothing; empty where nothing is."""
    path = folder / STATUS_FILE
    try:
        path.stat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return str(error)
    return "" if _read_status(path) else f"{STATUS_FILE} cannot be read"


def _read_status(path: str | Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            status = json.loads(file.read().decode())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(status, dict) or not (status.keys() & {*STAGES, "markers", "failures"}):
        return {}
    ours = ("markers", "written", "failures")
    return {name: value for name, value in status.items() if name not in ours or isinstance(value, dict)}


@lru_cache(maxsize=4)
def _large_markers(path: str, mtime_ns: int, size: int, inode: int) -> dict[str, dict[str, Any]]:
    """Read a status once for all questions about it: that of a session may tell of thousands of recordings."""
    return _read_markers(path)


@lru_cache(maxsize=1 << 13)
def _small_markers(path: str, mtime_ns: int, size: int, inode: int) -> dict[str, dict[str, Any]]:
    """Read a status once for all questions about it, of which a session asks of one recording after the other."""
    return _read_markers(path)


def _read_markers(path: str) -> dict[str, dict[str, Any]]:
    status = _read_status(path)
    markers = status.get("markers", {})
    return {stage: marker for stage, marker in markers.items() if status.get(stage) == "done" and _is_whole(marker)}


def _is_whole(marker: Any) -> bool:
    if not isinstance(marker, dict) or not isinstance(marker.get("key"), str):
        return False
    outputs = marker.get("outputs")
    whole = isinstance(marker.get("parts"), dict) and isinstance(outputs, dict) and outputs
    return bool(whole) and all(
        isinstance(o, dict) and {"size", "ends", "content"} <= o.keys() for o in outputs.values()
    )


def read_marker(folder: Path, stage: str) -> dict[str, Any] | None:
    """Return what `mark_done` stored for a stage; None where it did not, or something else changed it.

    It is shared with whoever asks next, and not to be changed.
    """
    path = os.path.join(folder, status_name(stage))
    try:
        stat = os.stat(path)
    except OSError:
        return None
    read = _small_markers if stat.st_size <= _SMALL_STATUS else _large_markers
    return read(path, stat.st_mtime_ns, stat.st_size, stat.st_ino).get(stage)


def check_done(folder: Path, stage: str, parts: dict[str, Any], *, deep: bool = False, glance: bool = False) -> State:
    """Decide whether a stage's results in a folder are those of today's inputs and options.

    Parameters
    ----------
    folder
        The recording's or the session's results.
    stage
        Its name in ``status.json``.
    parts
        What the key is made from.
    deep
        Look at all content of the outputs, not only at their sizes, heads and tails.
    glance
        Do not open outputs whose size and time of change are as they were.
    """
    marker = read_marker(folder, stage)
    if marker is None:
        unfinished = _UNFINISHED.get(str(read_status(folder, stage).get(stage)))
        return State(False, unfinished or lost_status(folder) or "not run yet")
    if marker["key"] != make_key(parts):
        return State(False, f"changed: {difference(marker['parts'], parts)}")
    damage = next(find_damage(folder, marker, deep=deep, glance=glance), "")
    return State(False, damage) if damage else State(True, key=marker["key"])


def find_damage(folder: Path, marker: dict[str, Any], *, deep: bool, glance: bool = False) -> Iterator[str]:
    """Say which outputs are not as the marker describes them, and how.

    `deep` looks at all their content, `glance` opens none whose size and time of change are as they were.
    """
    for name, expected in marker.get("outputs", {}).items():
        try:
            found = fingerprint(folder / name, "lenient", expected if glance and not deep else None)
            if found["size"] != expected["size"]:
                yield f"{name} has {found['size']} bytes, {expected['size']} were written"
            elif found["ends"] != expected["ends"] or (deep and content_hash(folder / name) != expected["content"]):
                yield f"{name} is not as it was written"
        except OSError:
            yield f"{name} is missing or unreadable"


def mark_done(
    folder: Path,
    stage: str,
    parts: dict[str, Any],
    outputs: Iterable[Path],
    seconds: float,
    *,
    writes: Iterable[Path] | None = None,
    **details: Any,
) -> None:
    """Write the marker of a finished stage, the last thing a stage does, and remove what earlier runs of it left.

    Parameters
    ----------
    folder, stage, parts
        As for `check_done`.
    outputs
        The files with the stage's results, in or below `folder`.
    seconds
        How long it took.
    writes
        Those of the outputs that we wrote; all by default.
    **details
        Further facts worth keeping, JSON-able.

    Raises
    ------
    OSError
        An output cannot be read, or the marker not be written.
    """
    described = {
        path.relative_to(folder).as_posix(): fingerprint(path, "deep") | {"mtime_ns": path.stat().st_mtime_ns}
        for path in outputs
    }
    mine = list(described) if writes is None else [path.relative_to(folder).as_posix() for path in writes]
    status = read_status(folder, stage)
    if len(mine) == len(described):  # beside files of others, those with our names may be theirs as well
        _remove(folder, set(files_written(folder, stage)) - set(mine))
    status[stage] = "done"
    _forget_failure(status, stage)
    status.setdefault("markers", {})[stage] = {
        "key": make_key(parts),
        "parts": parts,
        "outputs": described,
        "seconds": round(seconds, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"pyflow": __version__, "numpy": np.__version__, "h5py": h5py.__version__},
        **details,
    }
    status.setdefault("written", {})[stage] = mine
    save_json(folder / status_name(stage), status)


def unmark(folder: Path, stage: str, writes: Iterable[Path], *, also: Iterable[str] = ()) -> None:
    """Mark a stage as incomplete, before files are replaced.

    What it is going to write is added to what earlier runs wrote, so that what becomes superfluous is known even
    after a run that was killed.

    Parameters
    ----------
    folder, stage
        As for `check_done`.
    writes
        The files, in or below `folder`.
    also
        Further stages that are void now.
    """
    for name in also:
        _void(folder, name)
    status = read_status(folder, stage)
    names = {*files_written(folder, stage), *(path.relative_to(folder).as_posix() for path in writes)}
    status.setdefault("written", {})[stage] = sorted(names)
    status[stage] = "incomplete"
    _forget_failure(status, stage)
    status.setdefault("markers", {}).pop(stage, None)
    save_json(folder / status_name(stage), status)


def _void(folder: Path, stage: str) -> None:
    """Note that a stage that was done no longer is."""
    status = read_status(folder, stage)
    if stage in status and (status[stage] != "outdated" or stage in status.get("markers", {})):
        status[stage] = "outdated"
        status.setdefault("markers", {}).pop(stage, None)
        save_json(folder / status_name(stage), status)


def note_failure(folder: Path, stage: str, error: BaseException) -> None:
    """Keep what a stage failed with, until it runs again; nothing is kept where that cannot be written."""
    status = read_status(folder, stage)
    status.setdefault("failures", {})[stage] = str(error) or type(error).__name__
    with suppress(OSError):
        save_json(folder / status_name(stage), status)


def read_failure(folder: Path, stage: str) -> str:
    """Return what a stage failed with when it ran last; empty where it did not."""
    failure = read_status(folder, stage).get("failures", {}).get(stage, "")
    return failure if isinstance(failure, str) else ""


def _forget_failure(status: dict[str, Any], stage: str) -> None:
    status.get("failures", {}).pop(stage, None)
    if not status.get("failures", True):
        del status["failures"]


def files_written(folder: Path, stage: str) -> list[str]:
    """Return the names of files in a folder that runs of a stage wrote, or were about to when they were interrupted.

    They decide what is removed, so that nothing counts but names of this very folder, whoever changed its status.
    """
    names = read_status(folder, stage).get("written", {}).get(stage)
    return (
        [name for name in names if isinstance(name, str) and Path(name).name == name] if isinstance(names, list) else []
    )


def retire(folder: Path, keep: Callable[[str], bool]) -> None:
    """Remove the results of stages that are no longer part of a session.

    Only files that the folder's markers say we wrote are removed.

    Parameters
    ----------
    folder
        The session's results.
    keep
        Tells of a stage's name whether it stays.
    """
    for stage in known_stages(folder):
        status = read_status(folder, stage)
        if keep(stage) or stage not in status.get("written", {}):
            continue
        _remove(folder, set(files_written(folder, stage)))
        if stage not in STAGES:
            (folder / status_name(stage)).unlink(missing_ok=True)
            continue
        status["written"].pop(stage)
        status.pop(stage, None)
        status.get("markers", {}).pop(stage, None)
        save_json(folder / status_name(stage), status)


def _remove(folder: Path, names: set[str]) -> None:
    for name in sorted(names):
        # Of folders we write none but Zarr stores, and no other is removed, whatever a status says.
        if (folder / name).is_file() or is_zarr(folder / name):
            logger.info("%s: removing %s, which is no longer part of the results", folder, name)
            remove_anything(folder / name)


def save_json(path: Path, data: Any) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")


def create_json(path: Path, data: Any) -> bool:
    """Write JSON unless the file exists; of several processes at once, one succeeds and is told so."""
    try:
        with replacing(path, keep=True) as temporary:
            temporary.write_text(json.dumps(data), encoding="utf-8")
    except FileExistsError:
        if not path.exists():  # what exists is a file in the place of its folder
            raise
        return False
    return True


def save_npy(path: Path, array: np.ndarray) -> None:
    """Write an array, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)


def save_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays, compressed, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def save_mask(path: Path, mask: np.ndarray) -> None:
    """Write a bool image as an 8-bit PNG of 0 and 255, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(imagecodecs.png_encode(mask.astype(np.uint8) * 255))


def read_mask(path: Path) -> np.ndarray:
    """Read what `save_mask` wrote.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    return imagecodecs.png_decode(path.read_bytes()) != 0
