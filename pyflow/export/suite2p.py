"""Hand-over to suite2p: the registered binary, and what suite2p's own registration would have left beside it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.export.source import AlignedSession
from pyflow.io.atomic import replacing
from pyflow.io.unpickle import load_npy
from pyflow.layout import open_compensated

logger = logging.getLogger(__name__)

_LARGEST = np.iinfo(np.int16).max

# Files that suite2p takes for results of an earlier run of its own.
_RESULTS = ("ops.npy", "db.npy", "settings.npy", "reg_outputs.npy")


def to_suite2p(
    final_results: str | Path,
    folder: str | Path,
    *,
    frame_rate: float | None = None,
    channel: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Write all recordings of a session, one after the other, as suite2p's registered binary.

    suite2p looks for cells in a rectangle. It is set to the largest one in which all pixels are valid in every
    recording, so that no region of interest touches an invalid pixel. Outside the mask the movie stands still.

    Parameters
    ----------
    final_results
        The session's folder.
    folder
        Where ``suite2p/plane0`` goes; an earlier export there is replaced.
    frame_rate
        Frames per second of one plane, ``fs`` of suite2p. None: as the recordings tell.
    channel
        The functional one, counted from 1. Of two channels the other one becomes suite2p's second.
    progress
        Called as ``progress(recording, done, total)`` with frames.

    Returns
    -------
    Path
        ``ops.npy`` (suite2p before version 1), beside it ``db.npy``, ``settings.npy`` and ``reg_outputs.npy`` (later
        versions). ``ops["pyflow"]`` holds the names of the recordings, the mask and the factor ``scale`` between the
        values in ``data.bin`` and the recordings'.

    Raises
    ------
    FileNotFoundError
        The session has not run to its end, or a compensated video is gone.
    ValueError
        The frame rate is not positive, or not given where the recordings do not tell the same; there is no such
        channel, or no pixel is valid. Or the folder holds results of suite2p that are no export.
    OSError
        A file could not be written; the message names it.
    """
    if frame_rate is not None and not frame_rate > 0:
        raise ValueError(f"frame_rate: expected frames per second, found {frame_rate}")
    session = AlignedSession.open(final_results, channel)
    frame_rate = session.frame_rate() if frame_rate is None else frame_rate
    plane = Path(folder).absolute() / "suite2p" / "plane0"
    known = [load_npy(plane / name).item() for name in ("ops.npy", "db.npy") if (plane / name).is_file()]
    if known and not any("pyflow" in options for options in known):
        raise ValueError(f"{plane}: holds results of suite2p that are no export of pyflow; name another folder")
    plane.mkdir(parents=True, exist_ok=True)
    for name in _RESULTS:  # until all is written they would be about another movie
        (plane / name).unlink(missing_ok=True)
    channels = [channel, *({1, 2} - {channel} if session.reference.shape[-1] == 2 else ())]
    scale = _scale(session)
    files, means = [], []
    good = np.concatenate([recording.counts() for recording in session.recordings])
    for one, name in zip(channels, ("data.bin", "data_chan2.bin"), strict=False):
        files.append(plane / name)
        means.append(_write(session, files[-1], one, scale, good, progress))
    registration = _registration(session, channel, scale, good, means)
    movie = {**_movie(session, len(files), scale), **_paths(session, plane, files)}
    db = {**movie, "db_path": str(plane / "db.npy"), "settings_path": str(plane / "settings.npy")}
    ops = {**movie, **registration, "fs": frame_rate, "do_registration": 0, "ops_path": str(plane / "ops.npy")}
    settings = {"fs": frame_rate}
    for name, content in zip(_RESULTS, (ops, db, settings, registration), strict=True):
        _save(plane / name, content)
    return plane / "ops.npy"


def _registration(
    session: AlignedSession, channel: int, scale: float, good: np.ndarray, means: list[np.ndarray]
) -> dict[str, Any]:
    """Return what suite2p's own registration would have found; `means` are those of the channels."""
    rows, columns = largest_rectangle(session.valid)
    inside = (rows[1] - rows[0]) * (columns[1] - columns[0]) / np.count_nonzero(session.valid)
    logger.info(
        "suite2p looks for cells in rows %s, columns %s: %.0f %% of the valid pixels", rows, columns, 100 * inside
    )
    shifts = np.rint(np.concatenate([_shifts(recording) for recording in session.recordings])).astype(np.int32)
    found = {
        "refImg": _as_stored(session.reference[..., channel - 1], scale),
        "meanImg": means[0],
        "xoff": shifts[:, 0],
        "yoff": shifts[:, 1],
        "xrange": list(columns),
        "yrange": list(rows),
        "badframes": ~good,
    }
    return {**found, "meanImg_chan2": means[1]} if len(means) == 2 else found


def _paths(session: AlignedSession, plane: Path, files: list[Path]) -> dict[str, Any]:
    """Return where suite2p finds things; `files` are those of the channels."""
    found = {
        "save_path0": str(plane.parent.parent),
        "save_folder": "suite2p",
        "save_path": str(plane),
        "fast_disk": str(plane.parent.parent),
        "reg_file": str(files[0]),
        "data_path": [str(recording.video.parent) for recording in session.recordings],
    }
    return {**found, "reg_file_chan2": str(files[1])} if len(files) == 2 else found


def _movie(session: AlignedSession, n_channels: int, scale: float) -> dict[str, Any]:
    """Return the sizes of the movie and what it was made from."""
    height, width = session.valid.shape
    frames = np.array([recording.shape[0] for recording in session.recordings])
    return {
        "Ly": height,
        "Lx": width,
        "nframes": session.n_frames,
        "nplanes": 1,
        "nchannels": n_channels,
        "functional_chan": 1,
        "keep_movie_raw": False,
        "filelist": [str(recording.video) for recording in session.recordings],
        "frames_per_folder": frames,
        "frames_per_file": frames.copy(),
        "pyflow": {
            "recordings": [recording.name for recording in session.recordings],
            "final_valid": session.valid,
            "scale": scale,
        },
    }


def _save(path: Path, content: dict[str, Any]) -> None:
    """Save a dictionary as suite2p does: pickled, in an array."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.array(content, dtype=object), allow_pickle=True)


def _scale(session: AlignedSession) -> float:
    """Return the factor that brings all values into int16: 1 for integers that fit as they are."""
    largest, whole = 0.0, True
    for recording in session.recordings:
        whole &= recording.dtype.kind in "bui"
        if np.can_cast(recording.dtype, np.int16):
            continue
        with open_compensated(recording.video) as reader:
            for frames in reader:
                largest = max(largest, float(np.nanmax(np.abs(frames.astype(np.float64)), initial=0)))
    if whole and largest <= _LARGEST:
        return 1.0
    scale = _LARGEST / largest if largest else 1.0
    logger.info("suite2p stores int16: all values are multiplied by %g", scale)
    return scale


def _as_stored(values: np.ndarray, scale: float) -> np.ndarray:
    return np.clip(np.rint(np.nan_to_num(values * scale)), -_LARGEST - 1, _LARGEST).astype(np.int16)


def _write(
    session: AlignedSession,
    path: Path,
    channel: int,
    scale: float,
    good: np.ndarray,
    progress: Callable[[str, int, int], None] | None,
) -> np.ndarray:
    """Write a channel of all recordings and return its mean over the frames that count, (H, W) float32."""
    total, written = np.zeros(session.valid.shape), 0
    with replacing(path) as temporary, open(temporary, "wb", buffering=0) as file:
        for recording in session.recordings:
            done = 0
            for frames in session.frames(recording, channel):
                stored = (
                    frames.astype(np.int16) if scale == 1 and frames.dtype.kind in "bui" else _as_stored(frames, scale)
                )
                view = memoryview(np.ascontiguousarray(stored)).cast("B")
                while view:
                    view = view[file.write(view) :]
                total += stored[good[written : written + len(stored)]].sum(axis=0, dtype=np.float64)
                written += len(stored)
                done += len(stored)
                if progress is not None:
                    progress(recording.name, done, recording.shape[0])
    return (total / max(1, np.count_nonzero(good))).astype(np.float32)


def _shifts(recording: Any) -> np.ndarray:
    """Return the mean displacement of each frame into the centre's frame, (T, 2): x, y, in pixels.

    Where the frames' own displacements were not kept, it is that of the whole recording.
    """
    translation = recording.translation()
    between = recording.displacement().mean(axis=(0, 1), dtype=np.float64)
    return np.tile(between, (recording.shape[0], 1)) + (0 if translation is None else translation)


def largest_rectangle(mask: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """Find the largest rectangle of true pixels.

    For every row the columns of true pixels that end in it are a histogram; the largest rectangle below a histogram
    is found with a stack of rising heights.

    Parameters
    ----------
    mask
        (H, W) bool.

    Returns
    -------
    rows, columns
        First, and one behind the last.
    """
    best, found = 0, ((0, 0), (0, 0))
    heights = np.zeros(mask.shape[1], int)
    for row, line in enumerate(mask):
        heights = (heights + 1) * line
        rising: list[tuple[int, int]] = []  # first column that is as high, height
        for column, height in enumerate([*heights.tolist(), 0]):
            first = column
            while rising and rising[-1][1] >= height:
                first, above = rising.pop()
                if above * (column - first) > best:
                    best = above * (column - first)
                    found = ((row + 1 - above, row + 1), (first, column))
            rising.append((first, height))
    return found
