"""The depth of recordings in a stack of the same tissue: from their files to a table, a plot and a summary."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.io import ReaderOptions, open_video
from pyflow.io.atomic import replacing
from pyflow.io.readers.axes import PlaneError
from pyflow.io.readers.formats import recording_name
from pyflow.layout import DEPTH_FILE
from pyflow.motion.depth import DepthEstimate, estimate_depth
from pyflow.plots import plot_depth
from pyflow.session.config import CONFIG_SUFFIXES, SessionConfig
from pyflow.session.keys import stage1_options
from pyflow.session.recordings import find_recordings

LEAST_PLANES = 3
LEAST_LIKENESS = 0.3  # of tissue with itself 0.8 and more, with other tissue 0.2 and less, in simulated recordings
LEAST_CHANGE = 0.3  # of stacks 0.4 and more, of movies of one plane 0.25 and less, simulated and real


@dataclass(frozen=True)
class Target:
    """A recording whose depth is sought: its name, how it is opened, and where the results go."""

    name: str
    source: Any
    reader: ReaderOptions
    folder: Path


def targets_of(path: Path, reader: ReaderOptions, output: Path | None) -> list[Target]:
    """Return the recordings that a command is about.

    Parameters
    ----------
    path
        A recording; or the configuration of a session, whose recordings are meant.
    reader
        How they are opened; goes before the session's.
    output
        Folder for the results. None: of a session's recording its own, of another ``<name>_depth`` in the current one.

    Raises
    ------
    OSError, ValueError
        There is no such file, or the configuration is wrong or names what is not there.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if path.suffix.lower() not in CONFIG_SUFFIXES:
        name = recording_name(path)
        return [Target(name, path, reader, output or Path(f"{name}_depth"))]
    config = SessionConfig.from_file(path).with_reader(reader)
    return [
        Target(
            one.name, stage1_options(config, one).input_file, config.reader, output / one.name if output else one.folder
        )
        for one in find_recordings(config)
    ]


def open_stack(path: Path, reader: ReaderOptions) -> np.ndarray:
    """Read a stack of planes.

    Of a file with planes, each is the mean of its frames. In any other every frame is a plane.

    Parameters
    ----------
    path
        File or folder.
    reader
        What the files do not say, such as ``axes="ZTHW"``.

    Returns
    -------
    ndarray, shape (Z, H, W, C), float32

    Raises
    ------
    OSError, ValueError
        It cannot be opened, or has fewer than 3 planes.
    """
    try:
        with open_video(path, reader) as video:
            planes = [video[z] for z in range(len(video))]
    except PlaneError as error:
        planes = [_mean_of_plane(path, reader, z) for z in range(error.n_planes)]
    if len(planes) < LEAST_PLANES:
        raise ValueError(f"{path}: {len(planes)} planes, expected at least {LEAST_PLANES} to tell depths apart")
    return np.stack(planes).astype(np.float32)


def _mean_of_plane(path: Path, reader: ReaderOptions, plane: int) -> np.ndarray:
    with open_video(path, reader, plane=plane) as video:
        return np.mean([video[t] for t in range(len(video))], axis=0)


def find_depth(
    target: Target,
    stack: np.ndarray,
    stack_path: Path,
    *,
    spacing_um: float | None,
    smoothing_frames: float,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[str]:
    """Find how deep a recording lay in a stack, and write ``depth.csv``, ``depth.npz`` and ``depth.png``.

    Parameters
    ----------
    target
        The recording.
    stack
        (Z, H, W, C).
    stack_path
        Where that is from, for messages.
    spacing_um
        Distance of the planes, in micrometres, where it is known.
    smoothing_frames
        See `estimate_depth`.
    progress
        Called as ``progress(done, total)`` with frames.

    Yields
    ------
    str
        What was found and where it is, in lines for people.

    Raises
    ------
    OSError, ValueError
        The recording cannot be opened, its frames are not of the planes' size, or are the planes themselves, or a
        result cannot be written.
    """
    with open_video(target.source, target.reader) as movie:
        if movie.shape[1:3] != stack.shape[1:3]:
            sizes = ["{} x {}".format(*shape[1:3]) for shape in (stack.shape, movie.shape)]
            raise ValueError(
                f"{stack_path}: planes of {sizes[0]} pixels, expected {sizes[1]} as the frames of {target.name}; scale "
                "the stack to the recording's pixel size and cut it to its field of view"
            )
        if len(movie) == len(stack) and all(np.array_equal(movie[t], stack[t]) for t in range(len(movie))):
            raise ValueError(
                f"{stack_path}: its planes are the frames of {target.name}, expected a stack of the same tissue, taken "
                "at different depths"
            )
        rate = movie.frame_rate_hz
        found = estimate_depth(movie, stack, smoothing_frames=smoothing_frames, progress=progress)
    _save_table(target.folder / f"{DEPTH_FILE}.csv", found, spacing_um, rate)
    found.save(target.folder / f"{DEPTH_FILE}.npz")
    yield from _summary(found, spacing_um)
    try:
        figure = plot_depth(found, step_um=spacing_um, frame_rate_hz=rate)
    except ImportError:
        yield "not drawn: matplotlib is not installed"
    else:
        with replacing(target.folder / f"{DEPTH_FILE}.png") as temporary:
            figure.savefig(temporary, format="png")
    yield f"{target.folder / DEPTH_FILE}.csv"


def _summary(found: DepthEstimate, spacing_um: float | None) -> Iterator[str]:
    if not np.isfinite(found.smoothed).any():
        yield "no frame shows anything"
        return
    low, high = np.nanmin(found.smoothed), np.nanmax(found.smoothed)
    for step, unit in ((1.0, "planes"), (spacing_um, "micrometres")):
        if step is not None:
            yield (
                f"{(high - low) * step:.2f} {unit} of drift: between {low * step:.2f} and {high * step:.2f}, "
                f"the average at {found.center * step:.2f}"
            )
    yield from (f"attention: {doubt}" for doubt in doubts(found))
    if n := np.count_nonzero(np.isnan(found.depth)):
        yield f"{n} of {len(found.depth)} frames show nothing, and have no depth"


def doubts(found: DepthEstimate) -> Iterator[str]:
    """Say what speaks against the depths, in words that begin in the middle of a sentence."""
    if found.likeness < LEAST_LIKENESS:
        yield (
            f"the recording's average correlates to {found.likeness:.2f} only with the plane most like it; "
            "the stack may show other tissue, or be turned or mirrored, and then the depths mean nothing"
        )
    if found.change < LEAST_CHANGE:
        yield (
            f"far planes of the stack are almost as much alike as neighbours (they correlate by "
            f"{found.change:.0%} less); it may be a movie of one plane, and then the depths mean nothing"
        )
    if n := np.count_nonzero(found.at_border):
        yield f"{n} of {len(found.depth)} frames are most like the stack's end, and may lie beyond it"


def _save_table(path: Path, found: DepthEstimate, spacing_um: float | None, rate_hz: float | None) -> None:
    """Write a line per frame, counted from 0; what is not known is left empty."""
    columns: dict[str, np.ndarray] = {"frame": np.arange(len(found.depth))}
    if rate_hz:
        columns["time_s"] = columns["frame"] / rate_hz
    for name, depth in (("depth", found.depth), ("smoothed", found.smoothed)):
        columns[f"{name}_planes"] = depth
        if spacing_um is not None:
            columns[f"{name}_um"] = depth * spacing_um
    columns["correlation"] = found.correlation.max(axis=1)
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([row[0], *("" if np.isnan(value) else f"{value:.6g}" for value in row[1:])])
