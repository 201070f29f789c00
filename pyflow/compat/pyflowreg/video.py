"""pyflowreg's readers and writers, by the names of their classes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyflow import io
from pyflow.compat.pyflowreg.names import differs
from pyflow.compat.pyflowreg.words import OutputFormat
from pyflow.io import ArrayReader as ArrayReader
from pyflow.io import VideoReader, VideoWriter
from pyflow.io.writers.many import ArrayWriter, NullWriter

# Options of pyflowreg's readers -> of pyflow's.
_READING = {"dataset_names": "dataset", "deinterleave": "n_channels"}

# Options that have no counterpart, and what becomes of them.
_NOT_READ = {"use_memmap": "frames are read when they are indexed, whichever it is"}
_NOT_WRITTEN = {
    "format": "output_format alone says what is written",
    "chunk_size": "chunks have a size in bytes that reads fast, not a number of frames",
    "compression_level": "each kind of compression has one level",
    "dimension_ordering": "axes are always (T, H, W)",
    "use_v73": "MATLAB's version 7.3 is always written; output_format 'MAT7' writes version 7",
    "imagej": "TIFF files are always as ImageJ writes them",
    "bigtiff": "files become BigTIFF when they have to",
}


def get_video_file_reader(input_source: Any, buffer_size: int = 500, bin_size: int = 1, **options: Any) -> VideoReader:
    """Open files, an array or a reader; see `pyflow.open_video`."""
    if isinstance(input_source, VideoReader):
        return input_source
    _name(options, _NOT_READ)
    if bin_size > 1:
        differs("bin_size: averages are float32, with decimals, and not of the recording's type")
    known = {_READING.get(name, name): value for name, value in options.items() if name not in _NOT_READ}
    several = isinstance(input_source, Sequence) and not isinstance(input_source, str)
    if several:
        known.setdefault("files", "channels")
    return io.open_video(input_source, buffer_size=buffer_size, bin_size=bin_size, **known)


def get_video_file_writer(file_path: str | Path | None, output_format: str, **options: Any) -> VideoWriter:
    """Create a video file, and the folder it is in; see `pyflow.io.get_video_file_writer`."""
    output_format = OutputFormat(output_format).value
    _name(options, _NOT_WRITTEN)
    known = {name: value for name, value in options.items() if name not in _NOT_WRITTEN}
    if "TIFF" in output_format and known.pop("compression", None) not in (None, "none"):
        differs("compression: TIFF files are written as they are, not compressed")
    if isinstance(names := known.get("dataset_names"), str):  # a star there stands for the channel's number
        if "*" in names and names != "ch*":
            raise ValueError(
                f"dataset_names: only 'ch*' stands for several data sets, name them in a list, found {names!r}"
            )
        known["dataset_names"] = None if names == "ch*" else [names]
    if output_format == "NULL":
        return NullVideoWriter()
    if output_format == "ARRAY":
        return ArrayWriter("frames in memory")
    path = Path(file_path)
    if output_format == "CAIMAN_HDF5":  # a file for each channel as well
        output_format = "MULTIFILE_CAIMAN_HDF5"
    if output_format.startswith("MULTIFILE_"):
        path = path if path.suffix else path / "compensated"
        path = path.with_suffix(f".{output_format.rpartition('_')[2]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return io.get_video_file_writer(path, output_format.replace("SUITE2P_", ""), **known)


class NullVideoWriter(NullWriter):
    """Takes frames and writes nothing; counts them, and the calls."""

    def __init__(self) -> None:
        super().__init__("frames that nobody keeps")
        self.batches_written = 0

    def write_frames(self, frames: np.ndarray) -> None:
        """Count frames."""
        super().write_frames(frames)
        self.batches_written += 1


def _opens(summary: str, source: Callable[[Any], Any] = lambda given: given) -> Callable[..., VideoReader]:
    def create(file_path: Any, buffer_size: int = 500, bin_size: int = 1, **options: Any) -> VideoReader:
        return get_video_file_reader(source(file_path), buffer_size, bin_size, **options)

    create.__doc__ = summary
    return create


def _creates(output_format: str) -> Callable[..., VideoWriter]:
    def create(file_path: str | Path, **options: Any) -> VideoWriter:
        return get_video_file_writer(file_path, output_format, **options)

    create.__doc__ = f"Create a file in the format {output_format}."
    return create


def _creates_several(filename: str | Path, file_type: str = "TIFF", **options: Any) -> VideoWriter:
    """Create a file for each channel."""
    return get_video_file_writer(filename, f"MULTIFILE_{file_type}", **options)


HDF5FileReader = TIFFFileReader = MATFileReader = _opens("Open a file; its format is found in it.")
MULTICHANNELFileReader = _opens("Open files of a channel each.", list)
HDF5FileWriter, TIFFFileWriter, MATFileWriter = _creates("HDF5"), _creates("TIFF"), _creates("MAT")
MULTIFILEFileWriter = _creates_several


def _name(options: dict[str, Any], differences: dict[str, str]) -> None:
    for name in options:
        if name in differences:
            differs(f"{name}: {differences[name]}")
