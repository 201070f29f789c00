"""Small files that are written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside its place, flush it to disk, and move it there.

    What a killed process leaves beside it is overwritten by the next one; one process at a time.

    Parameters
    ----------
    path
        The file; an older one is replaced.
    write
        Called with the open binary file.

    Raises
    ------
    OSError
        It could not be written; the message names `path`, and what was there before is intact.
    """
    temporary = path.with_name(f".partial-{path.name}")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"could not write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
