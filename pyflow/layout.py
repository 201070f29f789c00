"""What a recording's and a session's folder hold: names, the version of what is in them, and how to read them.

==========================  ==========================================================================================
a recording's folder
``compensated.hdf5``        registered frames, a data set (T, H, W) per channel
``idx.hdf``                 which pixels of each frame are valid, 0 or 255
``w.hdf``                   displacement fields, where they are kept
``temporal_average.npy``    mean of the registered frames
``reference_frames.npy``    all references, where there are several, also in ``reference_frames.mat``
``valid_mask.npy``          pixels valid in all frames, where it was asked for, also in ``valid_mask.mat``
``w_to_reference.npz``      displacement ``u``, ``v`` into the centre's frame, also in ``w_to_reference.mat``, and
                            ``residual_px`` of its tiles
``rois.npz``                regions of interest that people drew
``depth.*``                 how deep each frame lay in a stack, where that was asked for
the session's folder
``final_valid_idx.*``       the mask of pixels valid everywhere, and what it is made from
``aligned_<name>.*``        a recording in the centre's frame, and its marker in ``status_aligned_<name>.json``
both
``status.json``             markers: what is done, made from what
``report.html``             what came of it, for people
==========================  ==========================================================================================
"""

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Literal

import h5py
import numpy as np

from pyflow import __version__
from pyflow.io import VideoReader, open_video
from pyflow.io.pieces import piece_length
from pyflow.threads import resolve_threads

VIDEO_FILE = "compensated.hdf5"
MASK_FILE = "idx.hdf"
MASK_DATASET = "idx"
FLOW_FILE = "w.hdf"
FLOW_DATASETS = ("u", "v")
AVERAGE_FILE = "temporal_average.npy"
META_FILES = ("reference_frame.npy", "reference_frame.mat", "statistics.npz", "statistics.mat")
REFERENCES_FILES = ("reference_frames.npy", "reference_frames.mat")
VALID_FILES = ("valid_mask.npy", "valid_mask.mat")
CHECKPOINT_FILE = ".checkpoint.npz"
FIELD_FILE = "w_to_reference.npz"
FIELD_MATLAB_FILE = "w_to_reference.mat"
ROI_FILE = "rois.npz"
DEPTH_FILE = "depth"  # .csv, .npz and .png
STATUS_FILE = "status.json"
RESULT_FILE = "final_valid_idx"  # .npz, .mat and .png
REPORT_FILE = "report.html"

# As others name the same: pyflowreg and MATLAB. Best first.
VIDEO_SUFFIXES = (".hdf5", ".h5", ".hdf", ".mat", ".tif", ".tiff")
_CHANNEL_FILE = re.compile(r"compensated_ch(\d+)", re.IGNORECASE)
FLOW_FILES = (FLOW_FILE, "w.h5")

SUFFIXES = {"HDF5": ".hdf5", "TIFF": ".tif", "MAT": ".mat", "MAT7": ".mat", "CAIMAN_HDF5": ".hdf5", "ZARR": ".zarr"}

# Raised when a stage computes something else from the same inputs and options, so that older results are not taken
# for new ones.
SCHEMA_VERSION = {"stage1": 5, "stage2": 3, "stage3": 3}

# Attributes of an HDF5 file's root by which we know our own results when nothing else is left to tell.
SIGNATURE = {"pyflow": __version__}

Fingerprint = Literal["quick", "lenient", "deep"]

_ENDS = 1 << 18  # bytes hashed at either end of a file: covers HDF5 and TIFF headers, and small files as a whole
_BLOCK = 1 << 23  # bytes of a file that one thread hashes, while others hash other blocks
_PIECE = 1 << 19  # bytes of a block in memory at a time
CHUNK_BYTES = 64 << 20  # read at a time: small against memory, large against overheads


def fingerprint(path: Path, kind: Fingerprint = "quick", known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Describe a file's content: size and hash of head and tail, and what `kind` adds.

    Parameters
    ----------
    path
        The file; of a folder, such as a Zarr store, the names and sizes of all files in it count as well.
    kind
        ``"quick"`` adds the time of change; ``"lenient"`` nothing, for files that may be copied elsewhere and are
        still the same; ``"deep"`` the hash of all content.
    known
        An earlier description. Where its size and its time of change are today's, the file is taken to be the same
        and not opened.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    stat = path.stat()
    if S_ISDIR(stat.st_mode):
        return _fingerprint_of_folder(path, kind)
    unchanged = known is not None and (stat.st_size, stat.st_mtime_ns) == (known.get("size"), known.get("mtime_ns"))
    if unchanged and kind != "deep" and "ends" in known:
        names = ("size", "ends", "mtime_ns") if kind == "quick" else ("size", "ends")
        return {name: known[name] for name in names}
    with open(path, "rb") as file:
        stat = os.fstat(file.fileno())
        digest = hashlib.blake2b(file.read(_ENDS), digest_size=16)
        if stat.st_size > _ENDS:
            file.seek(max(_ENDS, stat.st_size - _ENDS))
            digest.update(file.read())
    result: dict[str, Any] = {"size": stat.st_size, "ends": digest.hexdigest()}
    if kind == "quick":
        result["mtime_ns"] = stat.st_mtime_ns
    elif kind == "deep":
        result["content"] = content_hash(path)
    return result


def _fingerprint_of_folder(folder: Path, kind: Fingerprint) -> dict[str, Any]:
    files = _files_below(folder)
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
    ends = [fingerprint(file, "lenient") for file in dict.fromkeys(files[:1] + files[-1:])]
    result: dict[str, Any] = {
        "size": sum(sizes.values()),
        "ends": hashlib.blake2b(f"{sizes} {ends}".encode(), digest_size=16).hexdigest(),
    }
    if kind == "quick":
        result["mtime_ns"] = max((file.stat().st_mtime_ns for file in files), default=0)
    elif kind == "deep":
        result["content"] = content_hash(folder)
    return result


def _files_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def fingerprint_of_several(
    paths: Sequence[Path], kind: Fingerprint = "quick", known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Describe the content of a recording's files: of one as `fingerprint` does, of several their number and a hash.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    if len(paths) == 1:
        return fingerprint(paths[0], kind, known)
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(f"{path.name} {sorted(fingerprint(path, kind).items())}".encode())
    return {"files": len(paths), "all": digest.hexdigest()}


def content_hash(path: Path) -> str:
    """Hash all of a file, on all threads that this process may use: a hash of the hashes of its blocks.

    Of a folder it is a hash of those of the files in it.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    if path.is_dir():
        hashes = "".join(f"{file.relative_to(path).as_posix()} {content_hash(file)}\n" for file in _files_below(path))
        return hashlib.blake2b(hashes.encode(), digest_size=16).hexdigest()

    def block(first: int) -> bytes:
        digest = hashlib.blake2b(digest_size=16)
        with open(path, "rb", buffering=0) as file:
            file.seek(first)
            left = _BLOCK
            while left and (piece := file.read(min(left, _PIECE))):  # the whole, for each thread, would be much memory
                digest.update(piece)
                left -= len(piece)
        return digest.digest()

    starts = range(0, path.stat().st_size, _BLOCK)
    with ThreadPoolExecutor(resolve_threads(0)) as pool:
        return hashlib.blake2b(b"".join(pool.map(block, starts)), digest_size=16).hexdigest()


def find_video(folder: Path) -> Path | None:
    """Find a recording's compensated video, by pyflow, pyflowreg or MATLAB; None if there is none.

    Of one with a file for each channel it is the first, see `video_files`.
    """
    for suffix in VIDEO_SUFFIXES:
        for name in ("compensated", "compensated_ch1"):
            for file in sorted(folder.iterdir()) if folder.is_dir() else ():
                if file.name.lower() == name + suffix:
                    return file
    return None


def video_files(video: Path) -> list[Path]:
    """Return the files of a compensated video, one, or one per channel in their order."""
    if not _CHANNEL_FILE.fullmatch(video.stem):
        return [video]
    others = (file for file in video.parent.iterdir() if file.suffix == video.suffix)
    channels = {int(match[1]): file for file in others if (match := _CHANNEL_FILE.fullmatch(file.stem))}
    return [channels[number] for number in sorted(channels)]


def open_compensated(video: Path) -> VideoReader:
    """Open a compensated video with all its channels; errors are those of `open_video`."""
    files = video_files(video)
    return open_video(files[0]) if len(files) == 1 else open_video(files, files="channels")


def find_flow(folder: Path) -> Path | None:
    """Find a recording's displacement fields, by pyflow, pyflowreg or MATLAB; None if there are none."""
    return next((folder / name for name in FLOW_FILES if (folder / name).is_file()), None)


def is_ours(path: Path) -> bool:
    """Tell whether an HDF5 file says that pyflow wrote it; one that cannot be read does not."""
    try:
        with h5py.File(path, "r") as file:
            return all(name in file.attrs for name in SIGNATURE)
    except OSError:
        return False


def read_field(folder: Path) -> np.ndarray:
    """Read a recording's displacement into the centre's frame, (H, W, 2) float32, pixels, backward.

    Raises
    ------
    OSError, ValueError
        ``w_to_reference.npz`` cannot be read or does not hold it.
    """
    data = read_npz(folder / FIELD_FILE, FLOW_DATASETS)
    return np.stack([data[name] for name in FLOW_DATASETS], axis=-1)


def read_npz(path: Path, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read arrays from an ``.npz`` file, by their names; without names all.

    Raises
    ------
    OSError
        There is no such file, or it cannot be opened.
    ValueError
        It is damaged, or an array is not in it; the message names the file.
    """
    with open(path, "rb") as file:  # a damaged one would stay open if NumPy opened it
        try:
            with np.load(file, allow_pickle=False) as data:
                return {name: data[name] for name in names or data}
        except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error


def iterate_masks(path: Path, n_bytes: int = CHUNK_BYTES) -> Iterator[np.ndarray]:
    """Read the per-frame masks in an ``idx.hdf``, some frames at a time.

    The data set is ``idx``, or ``ch1`` (pyflowreg); Octave wraps it in a group that holds its ``value``. Any
    value but zero is valid.

    Parameters
    ----------
    path
        The file.
    n_bytes
        How much of it is read at a time.

    Yields
    ------
    ndarray
        (n, H, W) bool.

    Raises
    ------
    ValueError
        The file cannot be read or holds no single stack of masks.
    """
    with open_masks(path) as masks:
        step = piece_length(masks.shape[1:], masks.dtype, n_bytes)
        for first in range(0, len(masks), step):
            yield masks[first : first + step] != 0


def frames_that_count(video: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Tell which frames of a compensated video count: those of which ``idx.hdf`` beside it says that a pixel is valid.

    Parameters
    ----------
    video
        The video.
    shape
        Its (T, H, W).

    Returns
    -------
    ndarray
        (T,) bool; all of them where there is no ``idx.hdf``.

    Raises
    ------
    ValueError
        The masks cannot be read, or are of another shape.
    """
    path = video.parent / MASK_FILE
    if not path.is_file():
        return np.ones(shape[0], bool)
    with open_masks(path) as masks:
        if masks.shape != shape:
            raise ValueError(f"{path}: masks of shape {masks.shape}, but {video} has {shape}")
    return np.concatenate([chunk.any(axis=(1, 2)) for chunk in iterate_masks(path)])


@contextmanager
def open_masks(path: Path) -> Iterator[h5py.Dataset]:
    """Open the per-frame masks in an ``idx.hdf``, (T, H, W); names and errors are those of `iterate_masks`."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file: {error}") from error
    with file:
        masks = file.get(MASK_DATASET, file.get("ch1"))
        if isinstance(masks, h5py.Group):
            masks = masks.get("value")
        if not isinstance(masks, h5py.Dataset) or masks.ndim != 3:
            raise ValueError(
                f"{path}: expected a data set idx of shape (T, H, W), found {', '.join(file) or 'nothing'}"
            )
        yield masks
