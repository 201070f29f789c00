"""Videos in HDF5 files, also those of MATLAB (v7.3), Octave and NWB."""

import json
import math
import os
import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyflow.io.readers.axes import TOOLBOX_NAME, axes_by_name, toolbox_axes
from pyflow.io.readers.page_order import warn_of
from pyflow.io.readers.stack import StackReader, list_found
from pyflow.io.readers.video import check_size

# An attribute of the root, in files of registered frames.
FRAME_RATE = "frame_rate_hz"

# Most memory for the decompressed chunks of a data set that one frame lies in. A single chunk that is larger is kept
# all the same, as that much is needed to read anything of it.
_CACHE_BYTES = 1 << 28

# Axes that a data set with a video may have.
_AXES = (3, 4, 5)

# Filters that others register with the HDF Group, by number.
_FILTERS = {307: "bzip2", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd"}
_FILTERS |= {32017: "sz", 32024: "sz3", 32026: "blosc2", 32028: "sperr"}

# Data sets of a file of displacements, which are no video but have its shape.
_DISPLACEMENT = {"u", "v"}

_NWB_SERIES = ("TwoPhotonSeries", "OnePhotonSeries", "ImageSeries")


class Hdf5Reader(StackReader):
    """Reads HDF5.

    Parameters
    ----------
    path : Path
    dataset : str or sequence of str, optional
        Data sets to read, one per channel, or one with all. By default ``ch1``, ``ch2`` ... in any case, or ``u`` and
        ``v`` of displacements; else the only numeric data set of 3 to 5 axes in the file, or its only two-photon series
        (NWB).
    axes : str, optional
        Its axes, such as ``"HWT"``. By default what the file says, as labels of dimensions or by being NWB, and else
        the rule of `pyflow.io.readers.axes.axes_by_rule`. Of a file of MATLAB, in MATLAB's order.
    plane : int, optional
        Of a recording of several planes the one to read, counted from 0.

    Raises
    ------
    ValueError
        Not an HDF5 file, no such data set, none or several that could be the video, its axes are not known or
        improbable, or parts of it are missing.
    """

    def __init__(
        self,
        path: Path,
        dataset: str | tuple[str, ...] | list[str] | None = None,
        *,
        axes: str | None = None,
        plane: int | None = None,
    ) -> None:
        path = Path(path)
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise ValueError(f"{path}: not a readable HDF5 file: {error}") from error
        try:
            self._open(path, dataset, axes, plane)
        except BaseException:
            self._file.close()
            raise

    def _open(self, path: Path, dataset: Any, axes: str | None, plane: int | None) -> None:
        file = self._file
        self.path = path
        nwb = "nwb_version" in file.attrs or "nwb_version" in file
        found = _find(path, file, dataset, nwb)
        for one in found:
            _check_filters(path, one)
            _check_sources(path, one)
        first = found[0]
        matlab = _is_matlab(path, first)
        said = None
        if nwb:
            said = _axes_of_nwb(file, first)
        elif first.ndim == 3 and TOOLBOX_NAME.fullmatch(_variable(first)):
            said = toolbox_axes(matlab=matlab)
        said = _axes_of_labels(first) or said
        self._lay_out(
            path,
            {one.name.strip("/"): one.shape for one in found},
            {one.name.strip("/"): one.dtype for one in found},
            axes,
            said,
            plane,
            matlab=matlab,
        )
        self.origin["format"] = "NWB" if nwb else "MATLAB 7.3 or Octave, HDF5" if matlab else "HDF5"
        self.frame_rate_hz, where = _frame_rate(first) if nwb else _stored_frame_rate(file)
        if self.frame_rate_hz:
            self.origin["frame rate"] = where
        self._check_written(found)
        names = [one.name for one in found]
        found.clear()
        del first, one  # as long as it is open, HDF5 keeps the cache that it was opened with
        self._datasets = dict(
            zip(self._names, (_open_with_cache(file, n, self._layout.axes) for n in names), strict=True)
        )
        self._size = os.fstat(file.id.get_vfd_handle()).st_size
        self._check_guess()

    def _check_written(self, datasets: list[h5py.Dataset]) -> None:
        """Count the frames that were ever written: HDF5 makes up the others."""
        n_frames = self.shape[0]
        for one in datasets:
            written = _frames_written(one, self._layout.axes.find("T"))
            if written == 0 or (written < n_frames and "T" not in self._layout.axes):
                raise ValueError(f"{self.path}: {one.name} has shape {one.shape}, but nothing was ever written to it")
            n_frames = min(n_frames, written)
        if n_frames < self.shape[0]:
            warn_of(
                str(self.path),
                f"{datasets[0].name} has room for {self.shape[0]} frames, {n_frames} whole ones were written: the "
                "recording was aborted",
            )
            self.shape = (n_frames, *self.shape[1:])

    def _take(self, name: str, key: tuple[Any, ...]) -> np.ndarray:
        try:
            found = self._datasets[name][key]
        except OSError as error:
            raise ValueError(f"{self.path}: {name} cannot be read: {error}") from error
        check_size(self.path, self._file.id.get_vfd_handle(), self._size)
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _find(path: Path, file: h5py.File, names: Any, nwb: bool) -> list[h5py.Dataset]:
    """Return the data sets with the video."""
    videos: dict[str, h5py.Dataset] = {}
    others: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            (videos if item.ndim in _AXES and item.dtype.kind in "buif" else others)[name] = item

    file.visititems(visit)
    listed = list_found(
        *({name: f"{item.shape} {item.dtype}" for name, item in some.items()} for some in (videos, others))
    )
    if names is not None:
        wanted = [names] if isinstance(names, str) else list(names)
        keys = [name.strip("/") for name in wanted]
        keys = [f"{key}/data" if key not in videos and f"{key}/data" in videos else key for key in keys]
        if missing := [name for name, key in zip(wanted, keys, strict=True) if key not in videos]:
            raise ValueError(f"{path}: no 3-D or 4-D data set {missing[0]!r}; found: {listed}")
        return [videos[key] for key in keys]
    if nwb:
        series = {name: item for name, item in videos.items() if _series_type(item)}
        photons = {name: item for name, item in series.items() if _series_type(item) != "ImageSeries"}
        videos = photons or series
        if not any(item.size for item in videos.values()) and (outside := _external_files(file)):
            raise ValueError(
                f"{path}: its images are in other files, {', '.join(outside[:3])}; open those instead of this one"
            )
    matches = {name: re.fullmatch(r"ch(\d+)", _variable(item), re.IGNORECASE) for name, item in videos.items()}
    channels = {name: int(match[1]) for name, match in matches.items() if match}
    if channels:
        return [videos[name] for name in sorted(channels, key=channels.__getitem__)]
    if set(videos) == _DISPLACEMENT:
        return [videos[name] for name in sorted(videos)]
    if len(videos) == 1:
        return list(videos.values())
    problem = "which data set is the video? name one with dataset=" if videos else "no 3-D or 4-D data set"
    raise ValueError("; ".join([f"{path}: {problem}", f"found: {listed}", *_links_elsewhere(file)]))


def _links_elsewhere(file: h5py.File) -> list[str]:
    """Say which names lead into other files, whose data sets are not looked for."""
    found: list[str] = []

    def visit(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            found.append(f"{name} is a link to {link.path.strip('/')} in {link.filename}; open that file instead")

    file.visititems_links(visit)
    return found[:3]


def _is_matlab(path: Path, dataset: h5py.Dataset) -> bool:
    """Tell whether MATLAB or Octave wrote a data set, whose axes HDF5 then shows in reverse."""
    with open(path, "rb") as file:
        if file.read(10) == b"MATLAB 7.3":
            return True
    if "MATLAB_class" in dataset.attrs:  # by another program that writes MATLAB's files, without their first line
        return True
    # pyflow_write_recording.m turns its arrays round, so that they lie as the toolbox's
    return _is_octave(dataset) and not TOOLBOX_NAME.fullmatch(_variable(dataset))


def _is_octave(dataset: h5py.Dataset) -> bool:
    """Tell whether Octave wrote a data set: in a group, which has the variable's name, as its value."""
    return dataset.name.endswith("/value") and "OCTAVE_NEW_FORMAT" in dataset.parent.attrs


def _variable(dataset: h5py.Dataset) -> str:
    """Return the name that a data set has for those who wrote it."""
    return (dataset.parent.name if _is_octave(dataset) else dataset.name).strip("/")


# ---- what the file says of its axes


def _axes_of_labels(dataset: h5py.Dataset) -> tuple[str, str] | None:
    """Return axes from labels of the dimensions, dimension scales (netCDF) or axis tags (ilastik), where there are."""
    with suppress(KeyError, TypeError, ValueError, AttributeError, RuntimeError):
        labels = [
            label.decode() if isinstance(label, bytes) else str(label) for label in dataset.attrs["DIMENSION_LABELS"]
        ]
        if len(labels) == dataset.ndim and (axes := axes_by_name(labels)):
            return axes, "DIMENSION_LABELS"
    with suppress(KeyError, TypeError, ValueError, AttributeError, RuntimeError):
        tags = json.loads(dataset.attrs["axistags"])["axes"]
        if len(tags) == dataset.ndim and (axes := axes_by_name([tag["key"] for tag in tags])):
            return axes, "axistags"
    with suppress(KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError):
        names = [scale[0].name.rpartition("/")[2] for scale in dataset.dims]
        if axes := axes_by_name(names):
            return axes, "names of dimension scales"
    return None


def _series_type(dataset: h5py.Dataset) -> str:
    """Type of the NWB series that a data set is the ``data`` of; empty where it is none."""
    if not dataset.name.endswith("/data"):
        return ""
    attributes = dataset.parent.attrs
    named = [attributes.get("neurodata_type", ""), *np.atleast_1d(attributes.get("ancestry", ()))]
    named = [name.decode() if isinstance(name, bytes) else str(name) for name in named]
    return next((kind for kind in _NWB_SERIES if kind in named), "")


def _axes_of_nwb(file: h5py.File, dataset: h5py.Dataset) -> tuple[str, str]:
    """Return the axes of a series: by NWB 2 (frame, x, y[, z]), by NWB 1 (frame[, z], y, x)."""
    version = file.attrs.get("nwb_version", file["nwb_version"][()] if "nwb_version" in file else "")
    version = version.decode() if isinstance(version, bytes) else str(version)
    if re.match(r"(NWB-)?1\.", version):
        return ("THW" if dataset.ndim == 3 else "TZHW"), f"NWB {version.removeprefix('NWB-')}, which has (frame, y, x)"
    with suppress(KeyError, TypeError, ValueError, IndexError):
        x, y = (int(size) for size in dataset.parent["dimension"][:2])
        if x != y and dataset.shape[1:3] == (y, x):
            return "THWZ"[: dataset.ndim], "dimension of the series, (x, y)"
    return "TWHZ"[: dataset.ndim], f"NWB {version}, which has (frame, x, y)"


def _stored_frame_rate(file: h5py.File) -> tuple[float | None, str]:
    """Return the frames per second that a file of ours tells, and where."""
    rate = file.attrs.get(FRAME_RATE)
    return (float(rate), f"attribute {FRAME_RATE}") if isinstance(rate, float) and rate > 0 else (None, "")


def _frame_rate(dataset: h5py.Dataset) -> tuple[float | None, str]:
    series = dataset.parent
    with suppress(KeyError, TypeError, ValueError):
        return float(series["starting_time"].attrs["rate"]), "rate of the series"
    with suppress(KeyError, TypeError, ValueError, IndexError):
        times = series["timestamps"][:1000]
        period = float(np.median(np.diff(times)))
        return (1 / period, "timestamps of the series") if period > 0 else (None, "")
    return None, ""


def _external_files(file: h5py.File) -> list[str]:
    found: list[str] = []

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if name.endswith("/external_file") and isinstance(item, h5py.Dataset):
            found.extend(one.decode() if isinstance(one, bytes) else str(one) for one in np.atleast_1d(item[()]))

    file.visititems(visit)
    return found


# ---- whether it can be read, and is all there


def _check_filters(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse a data set whose compression HDF5 lacks here, with the package that brings it."""
    properties = dataset.id.get_create_plist()
    for place in range(properties.get_nfilters()):
        number, _, _, name = properties.get_filter(place)
        if h5py.h5z.filter_avail(number):
            continue
        with suppress(ImportError):  # which registers its filters
            import_module("hdf5plugin")
        if not h5py.h5z.filter_avail(number):
            called = _FILTERS.get(number) or name.decode("utf-8", "replace") or "an unknown filter"
            raise ValueError(
                f"{path}: {dataset.name} is compressed with {called} (HDF5 filter {number}), which is not installed; "
                "it comes with a package: pip install hdf5plugin"
            )


def _check_sources(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse a data set of which parts lie in files that are not there: HDF5 makes up what it does not find."""
    if dataset.is_virtual:
        _check_virtual(path, dataset)
    for name, offset, size in dataset.external or ():
        source, n_bytes = _part_of(path, dataset, name), offset + size
        if n_bytes < 1 << 62 and source.stat().st_size < n_bytes:
            raise ValueError(
                f"{path}: {dataset.name} lies in {source}: expected {n_bytes} bytes, found {source.stat().st_size}"
            )


def _part_of(path: Path, dataset: h5py.Dataset, name: str) -> Path:
    source = path if name == "." else path.parent / name
    if not source.is_file():
        raise ValueError(f"{path}: {dataset.name} lies in {source} in part, which is missing")
    return source


def _check_virtual(path: Path, dataset: h5py.Dataset) -> None:
    n_filled: float = 0
    by_name: dict[tuple[str, str], list[Any]] = {}
    for part in dataset.virtual_sources():
        if "%" in part.file_name:  # a pattern, whose files HDF5 finds one by one
            n_filled = math.inf
            continue
        by_name.setdefault((part.file_name, part.dset_name), []).append(part)
    for (name, inner), parts in by_name.items():
        source = _part_of(path, dataset, name)
        try:
            with h5py.File(source, "r") as file:
                found = file.get(inner)
                if not isinstance(found, h5py.Dataset):
                    raise ValueError(
                        f"{path}: {dataset.name} lies in {source} in part, which has no data set {inner!r}"
                    )
                for part in parts:
                    n_filled += _check_part(f"{path}: {dataset.name}", part, source, found)
                if not _frames_written(found, -1):
                    raise ValueError(
                        f"{path}: {dataset.name} lies in part in {source}, of whose {inner!r}, shape {found.shape}, "
                        "not all was written"
                    )
        except OSError as error:
            raise ValueError(f"{path}: {dataset.name} lies in {source} in part: {error}") from error
    if n_filled < dataset.size:
        raise ValueError(f"{path}: {dataset.name} has {dataset.size} pixels, but its sources fill {n_filled:.0f}")


def _check_part(name: str, part: Any, source: Path, found: h5py.Dataset) -> float:
    """Count the pixels that a source fills, infinitely many where it may grow; where it is too small, HDF5 crashes."""
    try:
        n_filled = part.vspace.get_select_npoints()
        if part.src_space.get_select_type() == h5py.h5s.SEL_ALL:
            fits = found.size == n_filled
        else:
            last = part.src_space.get_select_bounds()[1]
            fits = len(last) == found.ndim and all(one < size for one, size in zip(last, found.shape, strict=True))
    except RuntimeError:  # a selection without an end, which grows with its source
        return math.inf
    if not fits:
        raise ValueError(
            f"{name} takes {n_filled} pixels from {source}, whose {part.dset_name!r} has shape {found.shape}"
        )
    return n_filled


def _frames_written(dataset: h5py.Dataset, time: int) -> int:
    """Count the frames, from the first on, all of whose chunks were written."""
    total = dataset.shape[time] if time >= 0 else 1
    if dataset.is_virtual or dataset.external:
        return total
    if dataset.chunks is None:
        return total if dataset.id.get_storage_size() else 0
    grid = [-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    if dataset.id.get_num_chunks() >= math.prod(grid):
        return total
    if time < 0:
        return 0
    there = np.zeros(grid[time], np.int64)

    def count(chunk: Any) -> None:
        there[chunk.chunk_offset[time] // dataset.chunks[time]] += 1

    dataset.id.chunk_iter(count)
    missing = np.flatnonzero(there < math.prod(grid) // grid[time])
    if there[missing[0] + 1 :].any():
        raise ValueError(
            f"{dataset.file.filename}: of {dataset.name}, shape {dataset.shape}, frames in the middle were never "
            f"written, from {missing[0] * dataset.chunks[time]} on"
        )
    return int(missing[0]) * dataset.chunks[time]


def _open_with_cache(file: h5py.File, name: str, axes: str) -> h5py.Dataset:
    """Open a data set so that what one frame needs to have decompressed stays for the frames beside it.

    Chunks without a filter are better left to themselves: of those only the bytes that are asked for are read.
    """
    dataset = file[name]
    if dataset.external:  # whose names HDF5 would look for in the working directory
        access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        access.set_efile_prefix(b"${ORIGIN}")
        del dataset
        return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))
    if dataset.chunks is None or dataset.id.get_create_plist().get_nfilters() == 0:
        return dataset
    sizes = zip(axes, dataset.shape, dataset.chunks, strict=True)
    n_chunks = math.prod(-(-size // chunk) for letter, size, chunk in sizes if letter not in "TZ")
    chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    wanted = max(chunk_bytes, min(n_chunks * chunk_bytes, _CACHE_BYTES))
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    slots, default_bytes, preemption = access.get_chunk_cache()
    access.set_chunk_cache(max(slots, 2 * n_chunks + 1), max(default_bytes, wanted), preemption)
    del dataset  # as long as it is open, HDF5 keeps the cache that it was opened with
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))
