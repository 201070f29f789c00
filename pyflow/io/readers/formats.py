"""Which class reads which file."""

import os
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pyflow._help import did_you_mean
from pyflow.io.readers import bruker
from pyflow.io.readers.axes import Layout, check_plane, normal_axes
from pyflow.io.readers.options import ReaderOptions, reader_options
from pyflow.io.readers.video import (
    ArrayReader,
    BinnedReader,
    ChannelReader,
    JoinedReader,
    PartReader,
    PlaneReader,
    VideoReader,
)

# Format: module, class, extensions, options. A new format is one line.
_ARRAYS = ("dataset", "axes", "plane")
_FORMATS = {
    "TIFF": ("tiff", "TiffReader", (".tif", ".tiff", ".btf", ".tf8"), ("n_channels", "n_planes", "axes", "plane")),
    "HDF5": ("hdf5", "Hdf5Reader", (".h5", ".hdf5", ".hdf", ".he5", ".nwb"), _ARRAYS),
    "MAT": ("mat", "MatReader", (".mat",), _ARRAYS),
    "npy": ("flat", "NpyReader", (".npy",), ("axes", "plane")),
    "Zarr": ("zarr", "ZarrReader", (".zarr",), _ARRAYS),
    "suite2p": ("flat", "Suite2pReader", (".bin",), ()),
    "CaImAn": ("flat", "CaimanReader", (".mmap",), ("plane",)),
    "raw": ("flat", "RawReader", (".raw", ".dat"), ("shape", "dtype", "offset", "axes", "plane")),
}

# Options about a recording, not its files, and what they are where all of it is read as it is.
_WHOLE = {"frames": None, "channels": None, "frame_rate": None, "bin_size": 1, "buffer_size": None}

_BY_EXTENSION = {extension: name for name, (_, _, extensions, _) in _FORMATS.items() for extension in extensions}

# Bytes that a file of a format starts with, whatever it is called.
_STARTS = {
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"MATLAB 7.3 MAT-file": "HDF5",
    b"MATLAB 5.0 MAT-file": "MAT",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\x93NUMPY": "npy",
}

# What other files are, and what turns them into ones that can be read.
_ELSEWHERE = {
    ".sbx": "of Scanbox: the package sbxreader or suite2p turns it into TIFF",
    ".isxd": "of Inscopix: the package isx, isx.export_movie_to_tiff, or its software turns it into TIFF",
    ".czi": "of Zeiss: the package czifile or bioio-czi, or Fiji's Bio-Formats, turns it into TIFF",
    ".lsm": "of Zeiss: Fiji turns it into TIFF",
    ".lif": "of Leica: the package readlif or bioio-lif, or Fiji's Bio-Formats, turns it into TIFF",
    ".nd2": "of Nikon: the package nd2, nd2.tiff.nd2_to_tiff, turns it into TIFF",
    ".oir": "of Olympus: Fiji's Bio-Formats turns it into TIFF",
    ".oif": "of Olympus: the package oiffile, or Fiji's Bio-Formats, turns it into TIFF",
    ".oib": "of Olympus: the package oiffile, or Fiji's Bio-Formats, turns it into TIFF",
    ".mdf": "of Sutter: its software MView turns it into TIFF",
    ".ims": "of Imaris: an HDF5 file whose planes are data sets; Fiji's Bio-Formats turns it into TIFF",
    ".avi": "a film: ffmpeg or Fiji turns it into TIFF",
    ".mp4": "a film: ffmpeg or Fiji turns it into TIFF",
    ".mov": "a film: ffmpeg or Fiji turns it into TIFF",
    ".mkv": "a film: ffmpeg or Fiji turns it into TIFF",
    ".gif": "an animation: Fiji turns it into TIFF",
    ".cxd": "of HCImage: Fiji's Bio-Formats turns it into TIFF",
    ".xml": "a description of images in other files: open the folder, or those files",
    ".npz": "named arrays: save the movie alone, with numpy.save, as .npy",
}

# As ThorImage names the files of a recording: the channel, where on the stage, the plane, the frame.
_THOR = re.compile(r"Chan(?P<channel>[A-D])_(?P<tile>\d+_\d+)_(?P<plane>\d+)_(?P<number>\d+)\.tiff?", re.IGNORECASE)

_NUMBERED = re.compile(r"(.*?)(\d+)(\.\D*)")
_LAST_NUMBER = re.compile(r"(.*?)(\d+)(\D*)")

Source = str | Path | np.ndarray | VideoReader


def open_video(
    source: Source | list[Source] | tuple[Source, ...], options: ReaderOptions | None = None, **more: Any
) -> VideoReader:
    """Open a recording for reading.

    Parameters
    ----------
    source : path, array (T, H, W) or (T, H, W, C), open reader, or a list of these
        A folder stands for the files in it. Several files that hold one frame each follow each other in time; others
        are one channel each, unless the option `files` says otherwise. An open reader stays open when this one is
        closed.
    options : ReaderOptions, optional
        What the files do not say, see `pyflow.io.readers.options.ReaderOptions`.
    **more
        The same, one by one: ``n_channels=2``, ``axes="HWT"``, ``plane=0``.

    Returns
    -------
    VideoReader
        Indexes like an array (T, H, W, C); close it, or use it in a ``with`` statement.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not a video of a known format, is damaged, or says other than it holds; an option is unknown or does
        not fit it. The message says what was found.
    """
    options = reader_options({**(options.model_dump(exclude_defaults=True) if options else {}), **more})
    return _part(_open(source, options), options)


def _part(reader: VideoReader, options: ReaderOptions) -> VideoReader:
    """Return the part of a video that is asked for, in the bins and batches that are asked for."""
    try:
        name = str(reader.path or "video in memory")
        frames = None if options.frames is None else options.range_of(len(reader), name)
        if frames is not None or options.channels is not None or options.frame_rate is not None:
            reader = PartReader(reader, frames=frames, channels=options.channels, frame_rate_hz=options.frame_rate)
        if options.bin_size > 1:
            reader = BinnedReader(reader, options.bin_size)
        reader.buffer_size = options.buffer_size
        return reader
    except BaseException:
        reader.close()
        raise


def _open(source: Any, options: ReaderOptions) -> VideoReader:
    if isinstance(source, VideoReader):
        return PartReader(source, owned=False)
    if isinstance(source, np.ndarray):
        return _of_array(source, options)
    if isinstance(source, (list, tuple)):
        return _of_several(list(source), options)
    path = Path(source)
    if path.is_dir() and not is_zarr(path):
        files = folder_files(path)
        check_numbers(files)
        if files != [path]:
            return _of_several(files, options)
    return _open_file(path, options)


def _of_array(frames: np.ndarray, options: ReaderOptions) -> VideoReader:
    if options.axes is None:
        return ArrayReader(frames)
    name = "video in memory"
    layout = Layout.of(frames.shape, normal_axes(options.axes, name), options.plane, name)
    return ArrayReader(layout.take(np.arange(layout.video_shape[0]), frames.__getitem__))


def _of_several(sources: list[Source], options: ReaderOptions) -> VideoReader:
    """Open several files as one recording."""
    if not sources:
        raise ValueError("no files: the list of recordings is empty")
    thor = _of_thor(sources) if options.files is None else {}
    inner = options.model_copy(update=_WHOLE)
    if len(thor) > 1:
        plane = check_plane(options.plane, len(thor), str(Path(sources[0]).parent))
        files = [file for of_channel in thor[sorted(thor)[plane]].values() for file in of_channel]
        reader = _of_several(files, inner.model_copy(update={"plane": None}))
        reader.n_planes, reader.plane = len(thor), plane
        reader.origin = {**reader.origin, "planes": "the files, by their names"}
        return reader
    by_channel = next(iter(thor.values())) if thor else bruker.files_by_channel(sources)
    if len(by_channel) > 1:
        as_time = inner.model_copy(update={"files": "time"})
        return _gathered([(list(files), as_time) for files in by_channel.values()], ChannelReader, _of_several)
    if len(by_channel) == 1 and not thor and options.files != "channels" and options.axes is None:
        files = [Path(source) for source in sources]
        if len({bruker.recording_of(file) for file in files}) == 1:
            return _of_bruker(files, inner)
    readers = _gathered_readers([(source, inner) for source in sources], _open_one)
    single = len(readers) > 1 and all(len(reader) == 1 for reader in readers)
    in_time = options.files == "time" or (options.files is None and (single or len(by_channel) == 1))
    try:
        if len(readers) == 1:
            return readers[0]
        if single and options.files is None and not by_channel:
            _check_one_series(sources)
        return (JoinedReader if in_time else ChannelReader)(readers)
    except BaseException:
        for reader in readers:
            reader.close()
        raise


def _of_bruker(files: list[Path], options: ReaderOptions) -> VideoReader:
    """Open the files of one channel; of volumes the frames of one plane."""
    said = {} if options.n_planes == 1 else bruker.planes_in_xml(files[0])
    volumes = bool(said) or (options.n_planes or 1) > 1
    alone = {"axes": "THW", "n_channels": None, "n_planes": None, "plane": None} if volumes else {}
    readers = _gathered_readers([(file, options.model_copy(update=alone)) for file in files], _open_one)
    try:
        n_pages = [len(reader) for reader in readers]
        joined = readers[0] if len(readers) == 1 else JoinedReader(readers)
        if volumes:
            frames, n_planes = bruker.frames_of_plane(files, n_pages, said, options.n_planes, options.plane)
            where = "the XML beside the files" if said else "n_planes, as given"
            return PlaneReader(joined, frames, options.plane, n_planes, where)
        if options.n_planes is None:
            bruker.ask_about_cycles(files, n_pages)
        return joined
    except BaseException:
        for reader in readers:
            reader.close()
        raise


def _gathered(items: list[tuple[Any, ReaderOptions]], kind: Any, opening: Any) -> VideoReader:
    readers = _gathered_readers(items, opening)
    try:
        return kind(readers)
    except BaseException:
        for reader in readers:
            reader.close()
        raise


def _gathered_readers(items: list[tuple[Any, ReaderOptions]], opening: Any) -> list[VideoReader]:
    """Open files; none stays open if one fails."""
    readers: list[VideoReader] = []
    try:
        for source, options in items:
            readers.append(opening(source, options))
        return readers
    except BaseException:
        for reader in readers:
            reader.close()
        raise


def _open_one(source: Any, options: ReaderOptions) -> VideoReader:
    """Open one of several files, without those that its header says belong to it."""
    if isinstance(source, str | Path) and not Path(source).is_dir():
        return _open_file(Path(source), options, alone=True)
    return _open(source, options)


def _of_thor(sources: Sequence[Any]) -> dict[int, dict[str, list[Path]]]:
    """Files of ThorImage by plane and channel, each in order; empty where one is of something else."""
    found: dict[int, dict[str, list[tuple[str, int, Path]]]] = {}
    for source in sources:
        path = Path(source) if isinstance(source, str | Path) else Path()
        match = _THOR.fullmatch(path.name)
        if match is None:
            return {}
        of_plane = found.setdefault(int(match["plane"]), {})
        of_plane.setdefault(match["channel"].upper(), []).append((match["tile"], int(match["number"]), path))
    return {
        plane: {channel: [path for *_, path in sorted(files)] for channel, files in sorted(of_plane.items())}
        for plane, of_plane in sorted(found.items())
    }


def _check_one_series(sources: Sequence[Any]) -> None:
    """Refuse single frames of several names that are numbered alike, such as those of two channels."""
    series: dict[tuple[Path, str], list[str]] = {}
    for source in sources:
        path = Path(source) if isinstance(source, str | Path) else Path()
        if match := _LAST_NUMBER.fullmatch(path.stem):
            series.setdefault((path.parent, f"{match[1]}*{match[3]}{path.suffix}"), []).append(match[2])
    numbers = {tuple(sorted(found)) for found in series.values()}
    if len(series) > 1 and len(numbers) == 1 and len(numbers.pop()) > 1:
        (folder, first), (_, second), *_ = series
        raise ValueError(
            f"{folder}: single frames of several names that are numbered alike, {first} and {second}, are channels, "
            'planes or parts of a recording: name those of one series, or say files="time" if they follow each other'
        )


def natural_key(text: str) -> tuple:
    """Return a key under which 2 comes before 10; the text itself decides between 1 and 01."""
    parts = re.split(r"(\d+)", text)
    return [(int(p), "") if i % 2 else (0, p.casefold()) for i, p in enumerate(parts)], text


def folder_files(folder: Path) -> list[Path]:
    """Find the images that a folder stands for.

    Returns
    -------
    list of Path
        In natural order; the folder itself where it is one store (Zarr).

    Raises
    ------
    IsADirectoryError
        There are none.
    ValueError
        They are of several formats.
    """
    if is_zarr(folder):
        return [folder]
    if (folder / "data.bin").is_file() and (folder / "ops.npy").is_file():
        second = folder / "data_chan2.bin"
        return [folder / "data.bin", *([second] if second.is_file() else [])]
    found = [one for one in folder.iterdir() if one.is_file() and not one.name.startswith(".")]
    found = [one for one in found if _BY_EXTENSION.get(one.suffix.lower()) in ("TIFF", "HDF5", "MAT", "npy")]
    formats = sorted({_BY_EXTENSION[one.suffix.lower()] for one in found})
    if not found or formats == ["MAT"]:  # whose MAT files may describe something else
        _check_others(folder, bool(found))
    if len(formats) > 1:
        raise ValueError(
            f"{folder}: a folder of images of several formats, {', '.join(formats)}, expected one; where they are "
            "recordings, and not parts of one, open them one by one, or write a session's file with pyflow-session init"
        )
    return sorted(found, key=lambda one: natural_key(one.name))


def _check_others(folder: Path, has_files: bool) -> None:
    """Say what a folder holds that no file of images in it is.

    Raises
    ------
    IsADirectoryError
        There are no images, and what there is instead.
    ValueError
        There is a recording that cannot be read.
    """
    names = sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))
    for name in names:
        suffix = Path(name).suffix.lower()
        if suffix in _ELSEWHERE and suffix not in (".xml", ".npz"):
            raise ValueError(f"{folder / name}: {_ELSEWHERE[suffix]}")
    if has_files:
        return
    nothing = f"{folder}: is a folder without images, expected a video file or a folder of images"
    for below in ("plane0", "suite2p/plane0"):
        if (folder / below / "data.bin").is_file():
            raise IsADirectoryError(f"{nothing}; that of suite2p is {folder / below}")
    if alone := next((name for name in names if Path(name).suffix.lower() in (".bin", ".raw", ".dat", ".mmap")), None):
        raise IsADirectoryError(f"{nothing}; open the file itself, {folder / alone}")
    raise IsADirectoryError(nothing)


def group_files(paths: Sequence[Path], files: str | None = None) -> dict[str, list[Path]]:
    """Sort files into recordings.

    Parameters
    ----------
    paths
        Files, or folders, which stand for a recording each.
    files
        The option of that name, see `pyflow.io.readers.options.ReaderOptions`: with it, files of one folder whose names
        differ in their last number only are one recording. Those that Bruker gave one name are so anyway.

    Returns
    -------
    dict
        Path of a recording's first file -> all its files, both in the order given.
    """
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in paths:
        key = path.name
        if not path.is_dir():
            if match := bruker.FILE_NAME.fullmatch(path.name):
                key = f"{match['name']}\0"
            elif files and (match := _LAST_NUMBER.fullmatch(path.stem)):
                key = f"{match[1]}\0{match[3]}{path.suffix}"
        groups.setdefault((path.parent, key), []).append(path)
    return {str(group[0]): group for group in groups.values()}


def check_numbers(files: Sequence[Path]) -> None:
    """Refuse files of one recording, numbered one by one, of which some are missing.

    Raises
    ------
    ValueError
        The message names the first that is missing.
    """
    numbered: dict[tuple[str, ...], dict[int, Path]] = {}
    for file in files:
        if match := _NUMBERED.fullmatch(file.name):
            numbered.setdefault((match[1], match[3]), {})[int(match[2])] = file
    for found in numbered.values():
        expected = range(min(found), max(found) + 1)
        # Numbers that are no count, such as dates or times, have gaps all over.
        if len(found) < len(expected) < 2 * len(found):
            missing = [number for number in expected if number not in found]
            before = found[max(number for number in found if number < missing[0])]
            raise ValueError(
                f"{before}: the files of this recording go from number {min(found)} to {max(found)}, "
                f"{len(expected)} expected, {len(found)} found; number {missing[0]} is missing"
            )


def recording_name(path: Path, files: str | None = None) -> str:
    """Return what a recording is called whose first file, or folder, this is; see `group_files`."""
    if path.is_dir() and not is_zarr(path):
        return Path(os.path.abspath(path)).name  # of ".", its name
    if match := bruker.FILE_NAME.fullmatch(path.name):
        return match["name"]
    if files and (match := _LAST_NUMBER.fullmatch(path.stem)):
        return f"{match[1]}{match[3]}".strip("_-. ") or path.stem
    return path.stem


def format_by_name(path: Path) -> tuple[str, str]:
    """Return the format that a file's name speaks of, and, where it cannot be read, what turns it into one that can.

    Both are empty for a name that says nothing.
    """
    suffix = path.suffix.lower()
    return _BY_EXTENSION.get(suffix, ""), _ELSEWHERE.get(suffix, "")


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a store of Zarr."""
    return any((path / name).is_file() for name in (".zarray", ".zgroup", "zarr.json"))


def get_video_file_reader(path: str | Path, options: ReaderOptions | None = None, **more: Any) -> VideoReader:
    """Open one video file by its content or its extension; see `open_video`.

    Parameters
    ----------
    path : str or Path
        A file.
    options : ReaderOptions, optional
        Those that are about one file.
    **more
        The same, one by one.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, ValueError
        See `open_video`.
    """
    options = reader_options({**(options.model_dump(exclude_defaults=True) if options else {}), **more})
    return _part(_open_file(Path(path), options), options)


def _open_file(path: Path, options: ReaderOptions, *, alone: bool = False) -> VideoReader:
    """Open one file whole; `alone`: without the others that its header says belong to it."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file{_near(path)}")
    if path.is_dir() and not is_zarr(path):
        raise IsADirectoryError(f"{path}: is a folder, expected a video file")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    given = options.model_dump(exclude_defaults=True)
    name = _format_of(path, given)
    module, reader, _, known = _FORMATS[name]
    others = set(given) - set(known) - {*_WHOLE, "files"}
    if others:
        wrong = sorted(others)[0]
        raise ValueError(
            f"{path}: the option {wrong} is not about {name} files, which take {', '.join(known) or 'none such'}"
        )
    given = {option: value for option, value in given.items() if option in known}
    if name == "TIFF" and alone:
        given["alone"] = True
    return getattr(import_module(f"pyflow.io.readers.{module}"), reader)(path, **given)


def _near(path: Path) -> str:
    """Return the end of an error about a file that is missing: the one that it resembles, or the folder that is not."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"; there is no folder {folder}"
    try:
        names = os.listdir(folder)
    except OSError:
        return ""
    return did_you_mean(path.name, names) or ("" if path.is_absolute() else f" in {folder}")


def _format_of(path: Path, given: dict[str, Any]) -> str:
    """Name the format of a file: what it starts with goes before what it is called."""
    if path.is_dir():
        return "Zarr"
    suffix = path.suffix.lower()
    if given.get("shape") is not None and _BY_EXTENSION.get(suffix) in (None, "raw", "suite2p"):
        return "raw"
    with open(path, "rb") as file:
        start = file.read(32)
        file.seek(512)
        later = file.read(8)
    found = next((name for magic, name in _STARTS.items() if start.startswith(magic)), None)
    if found is None and later.startswith(b"\x89HDF"):  # behind a user block
        found = "HDF5"
    called = _BY_EXTENSION.get(suffix)
    if suffix in _ELSEWHERE:
        raise ValueError(f"{path}: {_ELSEWHERE[suffix]}")
    if found and called in (None, "HDF5", "MAT", "TIFF", "npy"):
        return found
    if called is None:
        known = ", ".join(sorted(_BY_EXTENSION))
        raise ValueError(
            f"{path}: unknown extension {path.suffix!r}, expected one of {known}; Fiji's Bio-Formats turns most others "
            'into TIFF, and a file of bare pixels opens with shape=(512, 512) and dtype="uint16"'
        )
    return called
