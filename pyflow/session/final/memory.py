"""Find how much stage 3 may read at a time, so that it takes no more memory than `memory_limit_gb` says."""

import math
import os
from pathlib import Path

from pyflow.layout import open_compensated
from pyflow.session.config import SessionConfig
from pyflow.session.final.masks import MASK_BYTES
from pyflow.threads import resolve_threads


def mask_bytes_at_once(config: SessionConfig, shape: tuple[int, ...]) -> int:
    """Return how many bytes of masks may be read at a time, of which there are three copies while they are counted."""
    return MASK_BYTES if config.memory_limit_gb is None else min(MASK_BYTES, _left(config, shape) // 3)


def frames_at_once(config: SessionConfig, shape: tuple[int, ...], video: Path) -> int:
    """Return how many frames of a video may be read at a time, of which there are four copies at the most.

    That is as read, warped, and put together for the file, while frames from before are still held.
    """
    asked = config.align_chunk_size
    if config.memory_limit_gb is None:
        return asked
    with open_compensated(video) as reader:
        frame_bytes = math.prod(reader.shape[1:]) * reader.dtype.itemsize
    return max(1, min(asked, _left(config, shape) // (4 * frame_bytes)))


def _left(config: SessionConfig, shape: tuple[int, ...]) -> int:
    """Return the bytes that frames may take of `memory_limit_gb`, beside what the process and its images take.

    Raises
    ------
    ValueError
        Nothing is left; the message says what is needed.
    """
    # The images of one recording and of the centre: averages in float64, the field and its parts, counts, shares and
    # masks; and for each thread a frame in float32, before and after.
    pixels = math.prod(shape)
    images = 2 * 8 * pixels + 64 * math.prod(shape[:2]) + resolve_threads(config.n_threads) * 16 * pixels
    taken = resident_bytes() + images
    needed = taken + 8 * 8 * pixels
    limit = int(config.memory_limit_gb * 2**30)
    if limit < needed:
        raise ValueError(
            f"memory_limit_gb: expected at least {needed / 2**30:.3f} for averages of shape {shape}, "
            f"found {config.memory_limit_gb}"
        )
    return limit - taken


def resident_bytes() -> int:
    """Return the memory that this process has now.

    Where the system does not tell, it is about what Python and the libraries take.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 150 << 20
    return pages * os.sysconf("SC_PAGE_SIZE")
