"""Files that are written whole or not at all."""

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyflow.io.output import disk_error

_PREFIX = ".temporary-"
PARTIAL_PREFIX = ".partial-"

# What file systems without links, such as exFAT and some network shares, say when one is asked for.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def temporary_beside(path: Path) -> Path:
    """Return a hidden name in the same folder that no other process uses."""
    return path.with_name(f"{_PREFIX}{socket.gethostname()}-{os.getpid()}-{path.name}")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing in a folder that no other process works in now."""
    for leftover in folder.glob(f"{_PREFIX}*"):
        remove_anything(leftover)


def remove_partial_files(folder: Path) -> None:
    """Remove what video writers left unfinished in a folder that no other process works in now."""
    for leftover in folder.glob(f"{PARTIAL_PREFIX}*"):
        remove_anything(leftover)


def remove_anything(path: Path) -> None:
    """Remove a file, a link but not what it points to, or a folder with all that is in it; nothing is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """Give a temporary path that takes the place of `path` when the block ends well, else vanishes.

    Parameters
    ----------
    path
        The file; an older one is replaced. Missing folders are made.
    keep
        Leave an older one as it is, and raise FileExistsError.

    Yields
    ------
    Path
        To be written in the block.

    Raises
    ------
    OSError
        It could not be written; the message names `path`, and what was there before is intact.
    """
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # a link there would have its target overwritten
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        (_link if keep else os.replace)(temporary, path)
    except OSError as error:
        if str(path) in str(error):
            raise
        raise disk_error(path, error) from error
    finally:
        with suppress(OSError):  # where nothing can be removed nothing was written, and that is what to tell
            temporary.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; where there are no links, another one instead, though no longer in a single step."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        os.replace(source, target)
