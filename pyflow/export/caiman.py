"""Hand-over to CaImAn: the memory map that its source extraction works on."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pyflow.export.source import AlignedSession
from pyflow.io.atomic import replacing

# Frames are collected up to so much before they are written: pixels come first in the file, so that every pixel's
# piece of time is a write of its own.
_BLOCK_BYTES = 1 << 28


def to_caiman(
    final_results: str | Path,
    folder: str | Path,
    *,
    name: str = "aligned",
    channel: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Write all recordings of a session, one after the other, as a memory map in C order for CaImAn's extraction.

    Outside the mask of valid pixels the movie stands still.

    Parameters
    ----------
    final_results
        The session's folder.
    folder
        Where the files go.
    name
        First part of their names; the rest says shape, order and frames, as CaImAn expects.
    channel
        Counted from 1.
    progress
        Called as ``progress(recording, done, total)`` with frames.

    Returns
    -------
    Path
        ``<name>_d1_<H>_d2_<W>_d3_1_order_C_frames_<T>_.mmap``, float32, (H * W, T), the rows of a column next to each
        other. Beside it ``<name>_session.npz``: ``final_valid`` bool (H, W), ``recordings``, ``frames_per_recording``,
        ``bad_frames`` bool (T,).

    Raises
    ------
    FileNotFoundError
        The session has not run to its end, or a compensated video is gone.
    ValueError
        There is no such channel, no pixel is valid, or `name` would be taken for a part of the convention.
    OSError
        A file could not be written; the message names it.
    """
    if Path(name).name != name or not name:
        raise ValueError(f"name: expected the first part of a file's name, found {name!r}")
    session = AlignedSession.open(final_results, channel)
    folder = Path(folder).absolute()
    height, width = session.valid.shape
    path = folder / f"{name}_d1_{height}_d2_{width}_d3_1_order_C_frames_{session.n_frames}_.mmap"
    per_block = max(1, _BLOCK_BYTES // (4 * height * width))
    with replacing(path) as temporary, open(temporary, "wb", buffering=0) as file:
        first, block = 0, []
        for recording in session.recordings:
            done = 0
            for frames in session.frames(recording, channel, chunk_size=min(64, per_block)):
                block.append(frames.astype(np.float32))
                done += len(frames)
                if sum(map(len, block)) >= per_block:
                    first += _write_block(file, block, first, session.n_frames)
                    block = []
                if progress is not None:
                    progress(recording.name, done, recording.shape[0])
        if block:
            _write_block(file, block, first, session.n_frames)
    with replacing(folder / f"{name}_session.npz") as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            final_valid=session.valid,
            recordings=[recording.name for recording in session.recordings],
            frames_per_recording=[recording.shape[0] for recording in session.recordings],
            bad_frames=~np.concatenate([recording.counts() for recording in session.recordings]),
        )
    return path


def _write_block(file: io.RawIOBase, block: list[np.ndarray], first: int, n_frames: int) -> int:
    """Write frames (n, H, W) from number `first` on into a file of `n_frames`; return their number."""
    frames = np.concatenate(block)
    pixels = np.ascontiguousarray(frames.transpose(2, 1, 0)).reshape(-1, len(frames))
    if len(frames) == n_frames:
        pieces = ((0, pixels.reshape(-1)),)
    else:
        pieces = ((4 * (pixel * n_frames + first), times) for pixel, times in enumerate(pixels))
    for start, values in pieces:
        file.seek(start)
        view = memoryview(values).cast("B")
        while view:
            view = view[file.write(view) :]
    return len(frames)
