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
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np

from pyflow import __version__
from pyflow.io.atomic import replacing, temporary_beside

logger = logging.getLogger(__name__)

STATUS_FILE = "status.json"
STAGES = ("stage1", "stage2", "stage3")

# Raised when a stage computes something else from the same inputs and options, so that older results are not
# taken for new ones.
SCHEMA_VERSION = {"stage1": 2, "stage2": 1, "stage3": 1}

_ENDS = 1 << 18  # bytes hashed at either end of a file: covers HDF5 and TIFF headers, and small files as a whole


def fingerprint(path: Path, *, mtime: bool = True) -> dict[str, Any]:
    """Describe a file's content cheaply: size, hash of head and tail, and time of change.

    Parameters
    ----------
    path
        The file.
    mtime
        False leaves the time out, for files that may be copied elsewhere and are still the same.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as file:
        stat = os.fstat(file.fileno())
        digest = hashlib.blake2b(file.read(_ENDS), digest_size=16)
        if stat.st_size > _ENDS:
            file.seek(max(_ENDS, stat.st_size - _ENDS))
            digest.update(file.read())
    result: dict[str, Any] = {"size": stat.st_size, "ends": digest.hexdigest()}
    if mtime:
        result["mtime_ns"] = stat.st_mtime_ns
    return result


def make_key(parts: dict[str, Any]) -> str:
    """Hash a JSON-able mapping; the order of its keys does not matter."""
    text = json.dumps(parts, sort_keys=True, allow_nan=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say which parts differ, as ``name: old -> new``."""
    old, new = dict(_flat(old)), dict(_flat(new))
    names = [name for name in {**old, **new} if old.get(name, "absent") != new.get(name, "absent")]
    return ", ".join(f"{name}: {_short(old, name)} -> {_short(new, name)}" for name in names)


def _short(parts: dict[str, Any], name: str) -> str:
    value = str(parts.get(name, "absent"))
    return value[:8] if re.fullmatch("[0-9a-f]{32}", value) else value  # of hashes the start is enough


def _flat(parts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in parts.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@dataclass(frozen=True)
class State:
    """Whether a stage has to run in a folder, and why.

    Parameters
    ----------
    done
        The results are complete and belong to today's inputs and options.
    reason
        Why not; empty when done.
    """

    done: bool
    reason: str = ""


def read_status(folder: Path) -> dict[str, Any]:
    """Read a folder's ``status.json``; empty where it is absent, unreadable or not about a stage."""
    try:
        status = json.loads((folder / STATUS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(status, dict) or not (status.keys() & {*STAGES, "markers"}):
        return {}
    markers = status.get("markers")
    return {**status, "markers": markers if isinstance(markers, dict) else {}}


def read_marker(folder: Path, stage: str) -> dict[str, Any] | None:
    """Return what `mark_done` stored for a stage; None where it did not, or something else changed it."""
    status = read_status(folder)
    marker = status.get("markers", {}).get(stage)
    if status.get(stage) != "done" or not isinstance(marker, dict) or not isinstance(marker.get("key"), str):
        return None
    outputs = marker.get("outputs")
    whole = isinstance(marker.get("parts"), dict) and isinstance(outputs, dict) and outputs
    return marker if whole and all(isinstance(found, dict) for found in outputs.values()) else None


def check_done(folder: Path, stage: str, parts: dict[str, Any]) -> State:
    """Decide whether a stage's results in a folder are those of today's inputs and options.

    Parameters
    ----------
    folder
        The recording's or the session's results.
    stage
        ``"stage1"``, ``"stage2"`` or ``"stage3"``.
    parts
        What the key is made from.
    """
    marker = read_marker(folder, stage)
    if marker is None:
        return State(False, "not run yet")
    if marker["key"] != make_key(parts):
        return State(False, f"changed: {difference(marker.get('parts', {}), parts)}")
    damage = damaged_output(folder, marker)
    return State(False, damage) if damage else State(True)


def damaged_output(folder: Path, marker: dict[str, Any]) -> str:
    """Name the first output that is not as the marker describes it; empty when all are."""
    for name, expected in marker.get("outputs", {}).items():
        try:
            found = fingerprint(folder / name, mtime=False)
        except OSError:
            return f"{name} is missing or unreadable"
        if found["size"] != expected.get("size"):
            return f"{name} has {found['size']} bytes, {expected.get('size')} were written"
        if found != expected:
            return f"{name} is not as it was written"
    return ""


def mark_done(
    folder: Path, stage: str, parts: dict[str, Any], outputs: list[Path], seconds: float, **details: Any
) -> None:
    """Write the marker of a finished stage; the last thing a stage does.

    Parameters
    ----------
    folder, stage, parts
        As for `check_done`.
    outputs
        The files the stage wrote, in or below `folder`.
    seconds
        How long it took.
    **details
        Further facts worth keeping, JSON-able.
    """
    status = read_status(folder)
    status[stage] = "done"
    status.setdefault("markers", {})[stage] = {
        "key": make_key(parts),
        "parts": parts,
        "outputs": {p.relative_to(folder).as_posix(): fingerprint(p, mtime=False) for p in outputs},
        "seconds": round(seconds, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"pyflow": __version__, "numpy": np.__version__, "h5py": h5py.__version__},
        **details,
    }
    save_json(folder / STATUS_FILE, status)


def unmark(folder: Path, *stages: str) -> None:
    """Mark stages as incomplete, before their outputs are replaced."""
    status = read_status(folder)
    for stage in stages:
        status[stage] = "incomplete"
        status.setdefault("markers", {}).pop(stage, None)
    save_json(folder / STATUS_FILE, status)


def save_json(path: Path, data: Any) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")


def create_json(path: Path, data: Any) -> bool:
    """Write JSON unless the file exists; of several processes at once, one succeeds and is told so."""
    temporary = temporary_beside(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_text(json.dumps(data), encoding="utf-8")
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
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


_HEARTBEAT_S = 20.0
_STALE_S = 300.0
_TOKEN = uuid.uuid4().hex  # tells this process from an earlier one with its number


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, so that no other works there meanwhile.

    A claim whose process is gone from this machine, or which gave no sign of life for five minutes, is taken
    over.

    Raises
    ------
    BlockingIOError
        Another process holds the folder; the message says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".claim"
    try:
        _create_claim(path)
    except FileExistsError:
        logger.warning("%s: taking over from a process that is gone (%s)", folder, _stale_holder(path))
        path.unlink(missing_ok=True)
        _create_claim(path)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_HEARTBEAT_S):
            with suppress(OSError):
                os.utime(path)

    heart = threading.Thread(target=beat, name="claim", daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        if _read_claim(path).get("token") == _TOKEN:
            path.unlink()


def _create_claim(path: Path) -> None:
    with open(path, "x", encoding="utf-8") as file:
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "token": _TOKEN}, file)


def _read_claim(path: Path) -> dict[str, Any]:
    """Return who holds a claim; empty where nobody does, or is killed or busy writing it."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) and type(holder.get("pid")) is int and holder["pid"] > 0 else {}


def _stale_holder(path: Path) -> dict[str, Any]:
    """Return who held a claim that may be taken over; raise BlockingIOError if it may not."""
    age = time.time() - path.stat().st_mtime
    holder = _read_claim(path)
    here = holder.get("host") == socket.gethostname() and os.name == "posix"
    if age > _STALE_S or (here and not _is_running(holder)):
        return holder
    raise BlockingIOError(
        f"{path.parent}: process {holder.get('pid')} on {holder.get('host')} works on it; "
        f"its last sign of life was {age:.0f} s ago"
    )


def _is_running(holder: dict[str, Any]) -> bool:
    if holder["pid"] == os.getpid():
        return holder.get("token") == _TOKEN
    try:
        os.kill(holder["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
