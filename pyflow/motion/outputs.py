"""Where the frame loop's results go: into arrays, or into the files of a recording's folder."""

import copy
import hashlib
import json
import logging
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy.io

from pyflow.io import VideoWriter, get_video_file_writer
from pyflow.io.atomic import replacing
from pyflow.layout import (
    AVERAGE_FILE,
    CHECKPOINT_FILE,
    FLOW_DATASETS,
    FLOW_FILE,
    MASK_DATASET,
    MASK_FILE,
    META_FILES,
    SCHEMA_VERSION,
    SIGNATURE,
    SUFFIXES,
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


class FrameSink(Protocol):
    """Takes what the frame loop produces."""

    def write(self, results: list[RegisteredFrame]) -> None:
        """Take the next frames."""

    def end_batch(self, state: LoopState) -> None:
        """Take the state that a later run needs to go on after the frames so far."""


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

    def end_batch(self, state: LoopState) -> None:
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
    frames_done
        Number of frames that the files of an interrupted run hold and keep.
    """

    def __init__(self, options: OFOptions, key: str, frames_done: int) -> None:
        self._checkpoint = options.output_path / CHECKPOINT_FILE
        self._key = key
        if frames_done == 0:  # from now on, the hidden files are no longer those of an older checkpoint
            self._checkpoint.unlink(missing_ok=True)
        with ExitStack() as stack:
            self._writers = {name: stack.enter_context(writer) for name, writer in _open_writers(options, frames_done)}
            self._behind = stack.enter_context(WriteBehind(_PIECES_BEHIND))
            self._stack = stack.pop_all()

    def write(self, results: list[RegisteredFrame]) -> None:
        """Take the next frames."""
        self._behind.submit(self._write, results)

    def _write(self, results: list[RegisteredFrame]) -> None:
        for name, writer in self._writers.items():
            frames = np.stack([getattr(result, name) for result in results])
            writer.write_frames(frames.view(np.uint8) * np.uint8(255) if name == "valid" else frames)

    def end_batch(self, state: LoopState) -> None:
        """Save the state once the frames so far are on disk."""
        self._behind.submit(self._save, copy.deepcopy(state))

    def _save(self, state: LoopState) -> None:
        for writer in self._writers.values():
            writer.flush()
        with replacing(self._checkpoint) as temporary, open(temporary, "wb") as file:
            np.savez(file, key=self._key, **vars(state))

    def __enter__(self) -> "FileSink":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)
        if exception[0] is None:
            self._checkpoint.unlink()


def _open_writers(options: OFOptions, frames_done: int) -> Iterator[tuple[str, VideoWriter]]:
    """Yield an attribute of `RegisteredFrame` and the file that takes it."""
    hdf5 = {"compression": options.compression, "resume_at": frames_done, "attributes": SIGNATURE}
    if options.output_format == "HDF5":
        yield "frame", get_video_file_writer(movie_file(options), "HDF5", **hdf5)
    else:
        yield "frame", get_video_file_writer(movie_file(options), options.output_format)
    if options.save_valid_idx:
        path = options.output_path / MASK_FILE
        yield "valid", get_video_file_writer(path, "HDF5", dataset_names=[MASK_DATASET], **hdf5)
    if options.save_w:
        path = options.output_path / FLOW_FILE
        yield "displacement", get_video_file_writer(path, "HDF5", dataset_names=list(FLOW_DATASETS), **hdf5)


def movie_file(options: OFOptions) -> Path:
    """Return the path of the registered movie."""
    name = Path(VIDEO_FILE).with_suffix(SUFFIXES[options.output_format]).name
    return options.output_path / (options.output_file_name or name)


def save_small_results(options: OFOptions, state: LoopState) -> None:
    """Write the temporal average and, with `save_meta_info`, reference and statistics, for numpy and MATLAB.

    Raises
    ------
    OSError
        A file could not be written.
    """
    reference = without_single_channel(state.reference)
    statistics = dict(zip(STATISTICS, state.statistics, strict=True))
    average = without_single_channel(state.temporal_average)
    files = {AVERAGE_FILE: lambda file: np.save(file, average)}
    if options.save_meta_info:
        writers = (
            lambda file: np.save(file, reference),
            lambda file: scipy.io.savemat(file, {"c_ref_raw": reference}),
            lambda file: np.savez(file, **statistics),
            lambda file: scipy.io.savemat(file, statistics, oned_as="row"),
        )
        files |= dict(zip(META_FILES, writers, strict=True))
    for name, write in files.items():
        with replacing(options.output_path / name) as temporary, open(temporary, "wb") as file:
            write(file)


def without_single_channel(image: np.ndarray) -> np.ndarray:
    """Return (H, W) for (H, W, 1), and other images as they are."""
    return image[..., 0] if image.shape[2] == 1 else image


def checkpoint_key(source: FrameSource, options: OFOptions, reference: np.ndarray | None) -> str:
    """Return a hash of all that decides what the loop computes: code, options, input, reference."""
    files = options.input_file if isinstance(options.input_file, tuple) else (options.input_file,)
    parts = {
        "schema": SCHEMA_VERSION["stage1"],
        "options": options.result_fields(),
        "input": [(file.name, fingerprint(file)) for file in files],
        "shape": source.reader.shape,
        "reference": None if reference is None else hashlib.blake2b(reference.tobytes()).hexdigest(),
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_checkpoint(options: OFOptions, key: str) -> LoopState | None:
    """Return the state that an interrupted run with the same key saved, or None."""
    if options.output_format != "HDF5":
        return None
    try:
        with open(options.output_path / CHECKPOINT_FILE, "rb") as file:
            saved = np.load(file, allow_pickle=False)
            if str(saved["key"]) != key:
                return None
            values = {name: saved[name] for name in saved.files if name != "key"}
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return LoopState(**{**values, "frames_done": int(values["frames_done"])})
