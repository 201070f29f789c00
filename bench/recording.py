"""A whole recording, TIFF to HDF5, beside reading and writing alone: ``python -m bench.recording FOLDER``.

The folder holds ``movie.npy`` (T, H, W) uint16, of which a recording of any length is made by showing it forward and
backward in turn. For each preset, with and without the displacement fields (``w.h5``), a recording is registered and
the same frames are copied by the same reader and writer, in turn; of the rounds, the fastest of each counts.
`bench.report` makes a table of it.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import tifffile

from pyflow.io import open_video
from pyflow.layout import CHECKPOINT_FILE
from pyflow.motion.compensate import compensate_recording
from pyflow.motion.frames import FrameSource
from pyflow.motion.options import OFOptions
from pyflow.motion.outputs import FileSink
from pyflow.motion.register import RegisteredFrame

PRESETS = ("quality", "balanced", "fast")


def to_and_fro(movie: np.ndarray, n_frames: int) -> Iterator[np.ndarray]:
    """Yield frames of a movie, forward and backward in turn, so that it never jumps."""
    around = np.concatenate([movie, movie[-2:0:-1]])
    for t in range(n_frames):
        yield around[t % len(around)]


def register(options: OFOptions) -> tuple[float, float, float]:
    """Return the seconds before the first registered frame, frames/s after, and milliseconds of processor a frame."""
    began = time.perf_counter()
    stamps: list[float] = []
    used: list[float] = []

    def note(done: int, total: int) -> None:
        stamps.append(time.perf_counter())
        used.append(time.process_time())

    compensate_recording(options, progress=note)
    return stamps[0] - began, steady(stamps), 1000 / steady(used)


def copy(options: OFOptions) -> float:
    """Return frames/s of reading and writing alone, with a mask and, where asked for, a displacement for each frame."""
    stamps = []
    with (
        open_video(options.input_file) as reader,
        ThreadPoolExecutor(1) as reading,
        FileSink(options, "copy", None) as sink,
    ):
        source = FrameSource(reader)
        valid = np.ones(source.frame_shape[:2], bool)
        displacement = np.moveaxis(np.zeros((2, *valid.shape), np.float32), 0, -1)
        piece = []
        for t, frame in enumerate(source.frames(reading), 1):
            piece.append(RegisteredFrame(frame, valid, displacement, displacement))
            if len(piece) == source.piece or t == len(source):
                sink.write(piece)
                piece = []
            stamps.append(time.perf_counter())
        (options.output_path / CHECKPOINT_FILE).touch()  # which the end of a recording removes
    return steady(stamps)


def steady(stamps: list[float]) -> float:
    """Return frames/s from the first quarter of the frames on."""
    first = len(stamps) // 4
    return (len(stamps) - 1 - first) / (stamps[-1] - stamps[first])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=800)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    movie = np.load(arguments.folder / "movie.npy")
    file, output = arguments.folder / "recording.tif", arguments.folder / "registered"
    with tifffile.TiffWriter(file, bigtiff=True) as writer:
        for frame in to_and_fro(movie, arguments.frames):
            writer.write(frame, contiguous=True)
    rows = []
    for preset, save_w in product(PRESETS, (False, True)):
        options = OFOptions(
            input_file=file,
            output_path=output,
            quality_setting=preset,
            save_w=save_w,
            n_workers=arguments.workers,
        )
        found, copies = [], []
        for _ in range(arguments.rounds):
            found.append(register(options))
            shutil.rmtree(output)
            output.mkdir()
            copies.append(copy(options))
            shutil.rmtree(output)
        starts, speeds, processor = zip(*found, strict=True)
        rows.append(
            {
                "preset": preset,
                "save_w": save_w,
                "start_s": min(starts),
                "frames_per_s": max(speeds),
                "copied_per_s": max(copies),
                "processor_ms": min(processor),
            }
        )
    file.unlink()
    (arguments.folder / "recording.json").write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
