"""Take the frame loop's results: into arrays, or into the files of a recording's folder."""

import hashlib
import io
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import scipy.io

from pyflow.io import VideoReader, VideoWriter, get_video_file_writer
from pyflow.io.atomic import remove_partial_files, replacing
from pyflow.io.readers.formats import folder_files
from pyflow.io.readers.hdf5 import FRAME_RATE
from pyflow.io.writers.many import ArrayWriter
from pyflow.layout import (
    AVERAGE_FILE,
    CHECKPOINT_FILE,
    FLOW_DATASETS,
    FLOW_FILE,
    MASK_DATASET,
    MASK_FILE,
    META_FILES,
    REFERENCES_FILES,
    SCHEMA_VERSION,
    SIGNATURE,
    SUFFIXES,
    VALID_FILES,
    VIDEO_FILE,
    fingerprint,
)
from pyflow.motion.frames import FrameSource
from pyflow.motion.options import OFOptions
from pyflow.motion.register import RegisteredFrame
from pyflow.motion.state import STATISTICS, LoopState
from pyflow.motion.streams import WriteBehind

logger = logging.getLogger(__name__)

# Pieces of frames that wait to be written.
_PIECES_BEHIND = 2

# So much work, at most, is lost when a run is interrupted inside a batch.
_SAVE_EVERY_S = 60.0

# What reading a damaged HDF5 file may raise.
_DAMAGE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, OverflowError, MemoryError)


class FrameSink(Protocol):
    """Takes what the frame loop produces."""

    def write(self, results: list[RegisteredFrame]) -> None:
        """Take the next frames."""

    def save(self, state: LoopState, *, now: bool) -> None:
        """Take the state that a later run needs to go on after the frames so far; may be left out unless `now`."""


class ArraySink:
    """Results in memory.

    Parameters
    ----------
    n_frames, frame_shape, dtype
        Of the registered movie.
    """

    def __init__(self, n_frames: int, frame_shape: tuple[int, int, int], dtype: np.dtype) -> None:
        self.registered = np.empty((n_frames, *frame_shape), dtype)
        self.displacement = np.empty((n_frames, *frame_shape[:2], 2), np.float32)
        self._count = 0

    def write(self, results: list[RegisteredFrame]) -> None:
        """Take the next frames."""
        for result in results:
            self.registered[self._count] = result.frame
            self.displacement[self._count] = result.displacement
            self._count += 1

    def save(self, state: LoopState, *, now: bool) -> None:
        """Nothing outlives a run in memory."""


class FileSink:
    """Results in the files of a recording's folder, written on a thread of its own; a context manager.

    When the block ends well, the files get their final names and the checkpoint is removed; when it does
    not, they wait, hidden, for a run that goes on.

    Parameters
    ----------
    options
        What to write where.
    key
        Identifies input and options in the checkpoint.
    frame_rate_hz
        Frames per second, where that is known, for those who read the movie.
    frames_done
        Number of frames that the files of an interrupted run hold and keep; 0: what there is of it is removed.
    snapshots
        Of these files when they held just these frames, ``<attribute of RegisteredFrame>.<name>``.

    Raises
    ------
    ValueError
        The files are not as they were written.
    OSError
        A file cannot be made, or be read back.
    """

    def __init__(
        self,
        options: OFOptions,
        key: str,
        frame_rate_hz: float | None,
        frames_done: int = 0,
        snapshots: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._checkpoint = options.output_path / CHECKPOINT_FILE
        self._key = key
        if frames_done == 0:  # from now on, the hidden files are no longer those of an older checkpoint
            self._checkpoint.unlink(missing_ok=True)
            remove_partial_files(options.output_path)
        with ExitStack() as stack:
            writers = _open_writers(options, frame_rate_hz, frames_done, snapshots)
            self._writers = {name: stack.enter_context(writer) for name, writer in writers}
            self._behind = stack.enter_context(WriteBehind(_PIECES_BEHIND))
            self._stack = stack.pop_all()
        self._saved_at = time.monotonic()

    @property
    def registered(self) -> np.ndarray | None:
        """The movie, (T, H, W, C), where it was asked for in memory; known when the block has ended."""
        writer = self._writers["frame"]
        return writer.get_array() if isinstance(writer, ArrayWriter) else None

    def write(self, results: list[RegisteredFrame]) -> None:
        """Take the next frames."""
        # what waits to be written, and not all of a result, stays in memory
        self._behind.submit(
            self._write, {name: [getattr(result, name) for result in results] for name in self._writers}
        )

    def _write(self, pieces: dict[str, list[np.ndarray]]) -> None:
        for name, piece in pieces.items():
            frames = _stacked(piece)
            frames = frames.view(np.uint8) * np.uint8(255) if name == "valid" else frames
            self._writers[name].write_frames(frames)

    def save(self, state: LoopState, *, now: bool) -> None:
        """Save the state once the frames so far are on disk: `now`, or if the last one is older than a minute."""
        if now or time.monotonic() - self._saved_at >= _SAVE_EVERY_S:
            self._behind.submit(self._save, state.arrays())
            self._saved_at = time.monotonic()

    def _save(self, state: dict[str, np.ndarray]) -> None:
        snapshots = {
            f"{name}.{part}": value
            for name, writer in self._writers.items()
            for part, value in writer.snapshot().items()
        }
        content = io.BytesIO()
        np.savez(content, key=self._key, **snapshots, **state)
        with replacing(self._checkpoint) as temporary, open(temporary, "wb") as file:
            file.write(content.getbuffer())
            file.write(hashlib.blake2b(content.getbuffer()).digest())
        for writer in self._writers.values():
            writer.settle()

    def __enter__(self) -> "FileSink":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)
        if exception[0] is None:
            self._checkpoint.unlink()


def _open_writers(
    options: OFOptions, frame_rate_hz: float | None, frames_done: int, snapshots: Mapping[str, np.ndarray] | None
) -> Iterator[tuple[str, VideoWriter]]:
    """Yield an attribute of `RegisteredFrame` and the file that takes it."""

    def hdf5(name: str) -> dict[str, Any]:
        """Options of a file; a KeyError names what is missing of its snapshot."""
        parts = ("size", "sums", "held", "places")
        snapshot = {part: snapshots[f"{name}.{part}"] for part in parts} if frames_done else None
        kept = {"resume_at": frames_done, "snapshot": snapshot}
        return {"compression": options.compression, "attributes": SIGNATURE, **kept}

    if options.output_format == "HDF5":
        about = hdf5("frame")
        if frame_rate_hz:
            about["attributes"] = {**SIGNATURE, FRAME_RATE: frame_rate_hz}
        yield "frame", get_video_file_writer(movie_file(options), "HDF5", **about)
    else:
        about = {"compression": options.compression} if options.output_format.endswith(("HDF5", "MAT", "ZARR")) else {}
        if options.output_format.endswith(("TIFF", "SUITE2P")):
            about["frame_rate_hz"] = frame_rate_hz
        yield "frame", get_video_file_writer(movie_file(options), options.output_format, **about)
    if options.save_valid_idx:
        path = options.output_path / MASK_FILE
        about = hdf5("valid")
        about["compression"] = about["compression"] or "gzip"
        yield "valid", get_video_file_writer(path, "HDF5", dataset_names=[MASK_DATASET], **about)
    if options.save_w:
        path = options.output_path / FLOW_FILE
        yield (
            "displacement",
            get_video_file_writer(path, "HDF5", dataset_names=list(FLOW_DATASETS), **hdf5("displacement")),
        )


def _stacked(frames: list[np.ndarray]) -> np.ndarray:
    """Stack frames (H, W, C), or (H, W), so that each channel of each frame lies in one piece, as files hold it."""
    if frames[0].ndim == 2:
        return np.stack(frames)
    return np.stack([frame.transpose(2, 0, 1) for frame in frames]).transpose(0, 2, 3, 1)


def movie_file(options: OFOptions) -> Path:
    """Return the path of the registered movie; of a file per channel, without the part that numbers the channel."""
    if options.output_format == "SUITE2P" and not options.output_file_name:
        return options.output_path / "data.bin"
    suffix = SUFFIXES.get(options.output_format.removeprefix("MULTIFILE_"), "")
    name = f"{_prefix(options)}{Path(VIDEO_FILE).stem}{suffix}"
    return options.output_path / (options.output_file_name or name)


def _prefix(options: OFOptions) -> str:
    """Return what stands before the movie's name: that of the recording, where it has a file and it is asked for."""
    files = _input_files(options)
    if options.naming_convention == "default" or not files:
        return ""
    return f"{files[0].name if files[0].is_dir() else files[0].stem}_"


def _input_files(options: OFOptions) -> list[Path]:
    """Return the files, or the folder, of the recording; none where it is in memory."""
    source = options.input_file.path if isinstance(options.input_file, VideoReader) else options.input_file
    return [file for file in (source if isinstance(source, tuple) else (source,)) if isinstance(file, Path)]


def check_input_stays(options: OFOptions) -> None:
    """Refuse an input that the results would replace, as it may be the only copy of a raw recording.

    Raises
    ------
    ValueError
        Naming the file.
    """
    movie = movie_file(options)
    fixed = {movie.name, MASK_FILE, FLOW_FILE, AVERAGE_FILE, *META_FILES, *REFERENCES_FILES, *VALID_FILES}
    results = {
        file.resolve()
        for file in options.output_path.iterdir()
        if file.name in fixed
        or (file.suffix == movie.suffix and re.fullmatch(rf"{re.escape(movie.stem)}_ch\d+", file.stem))
    }
    for file in _input_files(options):
        if file.resolve() in results:
            raise ValueError(f"{file}: the results would replace it; name another output_path")


def save_small_results(options: OFOptions, state: LoopState) -> None:
    """Write the temporal average and what else is asked for, for numpy and MATLAB: reference and statistics, the mask.

    Beside the statistics stands what else was found: per frame ``problem``, a key of `PROBLEMS`, and ``alpha`` and
    ``noise_px``; with several references ``reference_idx`` per frame, counted from 0.

    Raises
    ------
    OSError
        A file could not be written.
    """
    reference = without_single_channel(state.reference)
    statistics = statistics_by_name(state)
    statistics |= {
        "problem": state.problem[: state.frames_done],
        "alpha": state.alpha,
        "noise_px": state.noise_px,
    }
    if options.n_references > 1:
        statistics["reference_idx"] = state.chosen[: state.frames_done]
    average = without_single_channel(state.temporal_average)
    files = {AVERAGE_FILE: lambda file: np.save(file, average)}
    if options.save_meta_info:
        of_statistics = (
            lambda file: np.savez(file, **statistics),
            lambda file: scipy.io.savemat(file, statistics, oned_as="row"),
        )
        files |= dict(zip(META_FILES, (*_for_both("c_ref_raw", reference), *of_statistics), strict=True))
    if options.save_meta_info and options.n_references > 1:
        files |= dict(zip(REFERENCES_FILES, _for_both("reference_frames", all_references(state)), strict=True))
    if options.save_valid_mask:
        files |= dict(zip(VALID_FILES, _for_both("valid_mask", state.valid), strict=True))
    for name, write in files.items():
        with replacing(options.output_path / name) as temporary, open(temporary, "wb") as file:
            write(file)


def _for_both(name: str, array: np.ndarray) -> tuple[Callable[[BinaryIO], None], Callable[[BinaryIO], None]]:
    """Return what writes an array into a numpy file, and into a MATLAB file under a name."""
    return lambda file: np.save(file, array), lambda file: scipy.io.savemat(file, {name: array})


def all_references(state: LoopState) -> np.ndarray:
    """Return the references, float64 (n, H, W) or (n, H, W, C)."""
    return np.stack([without_single_channel(image) for image in (state.reference, *state.others)])


def statistics_by_name(state: LoopState) -> dict[str, np.ndarray]:
    """Return each of `STATISTICS` of the frames that are done, float64 (T,)."""
    return dict(zip(STATISTICS, state.statistics[:, : state.frames_done], strict=True))


def without_single_channel(image: np.ndarray) -> np.ndarray:
    """Return (H, W) for (H, W, 1), and other images as they are."""
    return image[..., 0] if image.shape[2] == 1 else image


def checkpoint_key(source: FrameSource, options: OFOptions, reference: np.ndarray | None) -> str:
    """Return a hash of all that decides what the loop computes: code, options, input, reference."""
    parts = {
        "schema": SCHEMA_VERSION["stage1"],
        "options": options.result_fields(),
        "input": _identity(options.input_file, source.reader),
        "shape": source.reader.shape,
        "reference": None if reference is None else hashlib.blake2b(reference.tobytes()).hexdigest(),
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _identity(source: Any, reader: VideoReader) -> list[Any]:
    """Describe what is registered, so that an interrupted run of something else is not gone on with."""
    if isinstance(source, Path):
        source = folder_files(source) if source.is_dir() else (source,)
    if isinstance(source, tuple | list):
        return [(file.name, fingerprint(file)) for file in source]
    digest = hashlib.blake2b(digest_size=16)
    for frames in reader:
        digest.update(np.ascontiguousarray(frames))
    return ["memory", digest.hexdigest()]


def resumed(
    options: OFOptions, key: str, frame_rate_hz: float | None
) -> tuple[LoopState, FileSink] | tuple[None, None]:
    """Return the state and the files of an interrupted run; without one, or where it is damaged, (None, None)."""
    folder = options.output_path
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None, None
    if options.output_format != "HDF5":
        logger.warning(
            "%s: starting over: a movie as %s cannot be gone on with after an interruption, one as HDF5 can",
            folder,
            options.output_format,
        )
        return None, None
    try:
        content = path.read_bytes()
        size = hashlib.blake2b().digest_size
        if hashlib.blake2b(content[:-size]).digest() != content[-size:]:
            raise ValueError(f"{path} is not as it was written")
        with np.load(io.BytesIO(content[:-size]), allow_pickle=False) as file:
            saved = dict(file)
        if str(saved["key"]) != key:
            logger.info("%s: starting over, the interrupted run was about another input or other options", folder)
            return None, None
        state = LoopState.from_arrays(saved)
        sink = FileSink(options, key, frame_rate_hz, state.frames_done, saved)
    except _DAMAGE as error:
        logger.warning("%s: starting over, the interrupted run left damage: %s", folder, error)
        return None, None
    logger.info("%s: going on after %d frames", folder, state.frames_done)
    return state, sink
