"""Describe a recording as it is opened: its sizes, where each was read from, and a picture of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from pyflow.io import ReaderOptions, VideoReader, open_video
from pyflow.io.atomic import replacing
from pyflow.io.readers.axes import PlaneError
from pyflow.io.readers.formats import folder_files
from pyflow.motion.frames import spread
from pyflow.motion.quality import PATTERN_FRAMES, frame_problem, period_of
from pyflow.plots.drawing import grey_limits
from pyflow.session.config import CONFIG_SUFFIXES, SessionConfig
from pyflow.session.keys import stage1_options
from pyflow.session.recordings import find_recordings

_MEAN_FRAMES = 200  # from all over the recording
_GAP = 4  # pixels between the images of a picture


def describe(source: Any, options: ReaderOptions, picture: Path | None = None) -> list[tuple[str, str, str]]:
    """Open a recording and say what it is.

    Parameters
    ----------
    source
        As `pyflow.open_video` takes it.
    options
        What its files do not say. Of several planes the first is looked at where none is chosen.
    picture
        PNG file to draw: a row per channel, on the left the mean of frames from all over the recording, on the right
        the one in the middle.

    Returns
    -------
    list of (str, str, str)
        A fact, its value, and where it was read from.

    Raises
    ------
    OSError, ValueError
        See `pyflow.open_video`; and the picture cannot be written.
    """
    chosen = options
    try:
        reader = open_video(source, options)
    except PlaneError as error:
        if options.plane is not None:
            raise
        chosen = options.model_copy(update={"plane": 0})
        reader = open_video(source, chosen)
        planes = f"{error.n_planes}; the first is shown, choose one with plane=0 to plane={error.n_planes - 1}"
    else:
        planes = "1" if reader.n_planes == 1 else f"{reader.n_planes}, of which number {reader.plane} is shown"
    with reader:
        facts = _facts(reader, planes)
        if hint := channels_in_doubt(source, reader):
            facts.append(("attention", hint, ""))
        if picture is not None:
            _draw(reader, picture)
            facts.append(("picture", str(picture), ""))
    return facts


def channels_in_doubt(source: Any, reader: VideoReader) -> str:
    """Ask about a folder of which each file is taken for a channel, as recordings of several days would be, too."""
    if not (isinstance(source, Path) and source.is_dir() and len(folder_files(source)) == reader.n_channels > 1):
        return ""
    hint = f"are they recordings? then name each, or begin with pyflow-session init {source}"
    return f"its {reader.n_channels} files are taken for channels: {hint}"


def _facts(reader: VideoReader, planes: str) -> list[tuple[str, str, str]]:
    origin, (n_frames, height, width, n_channels) = reader.origin, reader.shape
    rate = reader.frame_rate_hz
    facts = [
        ("format", origin.get("format", "array"), ""),
        ("axes", "(time, rows, columns, channels)", origin.get("axes", "")),
        ("frames", str(n_frames), origin.get("frames", "")),
        ("size", f"{height} rows x {width} columns", ""),
        ("channels", str(n_channels), origin.get("channels", "")),
        ("planes", planes, origin.get("planes", "")),
        ("type", str(reader.dtype), ""),
        ("bytes", f"{n_frames * height * width * n_channels * reader.dtype.itemsize / 1e6:.1f} MB", ""),
        ("frame rate", "not said" if rate is None else f"{rate:.4g} Hz", origin.get("frame rate", "")),
    ]
    if rate:
        facts.append(("duration", f"{n_frames / rate:.1f} s", ""))
    first = max(0, n_frames - PATTERN_FRAMES) // 2
    frames = (reader[t] for t in range(first, min(first + PATTERN_FRAMES, n_frames)))
    period = period_of(frame for frame in frames if not frame_problem(frame))
    if period > 1:
        hint = f"are they {period} channels or planes? then say n_channels={period} or n_planes={period}"
        facts.append(("attention", f"only every {period} frames show the same: {hint}", f"frames from {first} on"))
    return facts


def _draw(reader: VideoReader, path: Path) -> None:
    indices = spread(len(reader), _MEAN_FRAMES)
    mean = np.mean([np.nan_to_num(reader[int(t)]) for t in indices], axis=0, dtype=np.float64)
    middle = np.nan_to_num(reader[len(reader) // 2])
    rows = [
        np.hstack([_grey(mean[..., c]), np.full((mean.shape[0], _GAP), 255, np.uint8), _grey(middle[..., c])])
        for c in range(mean.shape[2])
    ]
    gap = np.full((_GAP, rows[0].shape[1]), 255, np.uint8)
    image = np.vstack([part for row in rows for part in (row, gap)][:-1])
    with replacing(path) as temporary:
        temporary.write_bytes(imagecodecs.png_encode(image))


def _grey(image: np.ndarray) -> np.ndarray:
    low, high = grey_limits(image)
    return (np.clip((image - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)


def recordings_of(files: Sequence[Path], options: ReaderOptions) -> list[tuple[str, Any, ReaderOptions]]:
    """Return what the command is asked about: name, source and options of each recording.

    Parameters
    ----------
    files
        Recordings; or configurations of sessions, whose recordings are meant, with the session's own options.
    options
        Go before the session's. With `ReaderOptions.files` all of `files` are one recording.
    """
    found: list[tuple[str, Any, ReaderOptions]] = []
    plain = []
    for file in files:
        if file.suffix.lower() not in CONFIG_SUFFIXES:
            plain.append(file)
            continue
        config = SessionConfig.from_file(file).with_reader(options)
        found += [(one.name, stage1_options(config, one).input_file, config.reader) for one in find_recordings(config)]
    if options.files is not None and len(plain) > 1:
        return [*found, (f"{plain[0]} and {len(plain) - 1} more", plain, options)]
    return [*found, *((str(file), file, options) for file in plain)]
