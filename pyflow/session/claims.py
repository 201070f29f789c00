"""Claims: of several processes that want to work in a folder, one does and the others wait."""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

CLAIM_FILE = ".claim"

_HEARTBEAT_S = 20.0
_STALE_S = 300.0
_POLL_S = 0.1
_SILENT_S = 1.0  # a claim that still does not say whose it is was left half written
_TOKEN = uuid.uuid4().hex  # tells this process from an earlier one with its number


@contextmanager
def claim(folder: Path, *, wait_s: float = float("inf")) -> Iterator[Callable[[], None]]:
    """Hold a folder for this process, so that no other works there meanwhile.

    Where another process holds it, wait until that has ended. A claim whose process is gone from this machine, or
    which gave no sign of life for five minutes, is taken over.

    Parameters
    ----------
    folder
        Made if missing.
    wait_s
        How long to wait.

    Yields
    ------
    callable
        Raises the RuntimeError below where the folder is not held any more; to be called before what was done there is
        made to count.

    Raises
    ------
    BlockingIOError
        Another process holds the folder, and still does after `wait_s`; the message says which.
    RuntimeError
        This process gave no sign of life for so long (a sleeping machine) that another took the folder over while it
        worked there.
    OSError
        The claim could not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CLAIM_FILE
    waited_for, started = None, time.monotonic()
    while not _acquire(path):
        holder, waited_s = _read(path), time.monotonic() - started
        if waited_s >= wait_s:
            raise BlockingIOError(f"{folder}: {_who(holder)} works on it")
        if (holder and holder != waited_for) or (waited_for is None and waited_s > _SILENT_S):
            logger.info("%s: waiting for %s, which works on it", folder, _who(holder))
            waited_for = holder
        time.sleep(_POLL_S)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_HEARTBEAT_S):
            with suppress(OSError):
                os.utime(path)

    heart = threading.Thread(target=beat, name="claim", daemon=True)
    heart.start()
    check = partial(_check, path)
    try:
        yield check
        check()
    finally:
        stop.set()
        heart.join()
        if _is_own(path):
            path.unlink(missing_ok=True)


def holder(folder: Path) -> str:
    """Say who works in a folder now; empty where nobody does."""
    path = folder / CLAIM_FILE  # in a folder that may not be read nobody is seen
    return "" if not os.path.exists(path) or _is_stale(path) else _who(_read(path))


def watch(folder: Path) -> Callable[[], None]:
    """Return what raises the RuntimeError of `claim` once the folder was lost; to be called often, which costs little.

    Who slept and goes on would otherwise write between the files of the process that took over.
    """
    looked = time.time()

    def check() -> None:
        nonlocal looked
        if abs(time.time() - looked) > _HEARTBEAT_S:
            _check(folder / CLAIM_FILE)
            looked = time.time()

    return check


def _check(path: Path) -> None:
    if not _is_own(path):
        raise RuntimeError(f"{path.parent}: taken over by {_who(_read(path))} while this process worked on it")


def _acquire(path: Path) -> bool:
    """Create a claim, after removing that of a dead process; False if another process holds or creates it.

    Several processes may find the same claim stale at once. Which of them removes it, a claim on the claim decides;
    whoever gets that one later finds a new claim in the stale one's place and leaves it alone.
    """
    if _create(path):
        return True
    if not _is_stale(path):
        return False
    guard = path.with_name(path.name + "~")
    if not _acquire(guard):
        return False
    try:
        if _is_stale(path):
            logger.warning("%s: taking over from %s, which is gone", path.parent, _who(_read(path)))
            path.unlink(missing_ok=True)
    finally:
        guard.unlink(missing_ok=True)
    return _create(path)


def _create(path: Path) -> bool:
    created = False
    try:
        with open(path, "x", encoding="utf-8") as file:
            created = True
            json.dump({"host": socket.gethostname(), "pid": os.getpid(), "token": _TOKEN}, file)
    except FileExistsError:
        return False
    except BaseException as error:
        if created:
            path.unlink(missing_ok=True)
        if not isinstance(error, OSError):  # an interrupt
            raise
        raise OSError(error.errno, f"could not write {path}: {error.strerror or error}") from error
    return True


def _read(path: Path) -> dict[str, Any]:
    """Return who holds a claim; empty where nobody does, or was killed or is busy writing it."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    known = isinstance(holder, dict) and type(holder.get("pid")) is int and isinstance(holder.get("host"), str)
    return holder if known and holder["pid"] > 0 else {}


def _is_own(path: Path) -> bool:
    holder = _read(path)  # its number as well: a forked process has its parent's token
    return (holder.get("token"), holder.get("pid")) == (_TOKEN, os.getpid())


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']}" if holder else "a process that does not say which"


def _is_stale(path: Path) -> bool:
    """Tell whether a claim may be taken over; one that is not there any more may not."""
    try:
        age = time.time() - path.lstat().st_mtime  # of a broken link, too
    except FileNotFoundError:
        return False
    holder = _read(path)
    here = holder.get("host") == socket.gethostname() and os.name == "posix"
    return age > _STALE_S or (here and not is_running(holder["pid"], holder.get("token")))


def is_running(pid: int, token: str | None = _TOKEN) -> bool:
    """Tell whether a process of this machine is there; with our own number, only one with our token is."""
    if pid == os.getpid():
        return token == _TOKEN
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
