"""What an animal was shown and when, as NWB 2 files keep it.

Presentations are rows of tables (``TimeIntervals``), or samples of series below ``stimulus/presentation``. Their times
are seconds; samples of the traces are counted here, as Allen files count them.
"""

import h5py
import numpy as np
import pandas as pd

from pyflow.units.sources import stimuli
from pyflow.units.sources.base import SourceError, dataset, text

_NOT_STIMULI = ("trials", "epochs", "invalid_times")
_NAME = "stimulus_name"
_IMAGES, _FEATURES = "IndexSeries", "AbstractFeatureSeries"
_EPOCH_NAMES = (_NAME, "stimulus", "label", "name", "tags")
_OTHER_NAMES = {"movie_frame_index": "frame", "frame_index": "frame", "movie_repeat": "repeat"}
_PRESENTATION = "stimulus/presentation"
_ROUNDING = 0.01  # of a sample: clocks that agree differ by that much once their times are rounded
_PAUSE_S = stimuli.LONGEST_PAUSE / 30  # the Allen Institute's recordings have 30 frames per second


def names(file: h5py.File) -> list[str]:
    """Names of the stimuli, sorted; times are not read."""
    found = {_stimulus(name) for name, _ in _presentation_series(file)}
    for name, group in _interval_tables(file):
        column = group.get(_NAME)
        found |= {_stimulus(name)} if column is None else set(map(str, text(column[()])))
    return sorted(found)


def tables(file: h5py.File, timestamps: np.ndarray) -> dict[str, pd.DataFrame]:
    """All stimuli by name, each as `Source.stimulus_table` has it.

    Parameters
    ----------
    file : h5py.File
    timestamps : (T,) array
        Of the traces' samples, seconds.
    """
    found = {}
    for name, group in _interval_tables(file):
        found |= _by_stimulus(_intervals(group), _stimulus(name))
    for name, group in _presentation_series(file):
        if _stimulus(name) not in found:
            found[_stimulus(name)] = _series(group)
    return {name: _in_samples(name, found[name], timestamps) for name in sorted(found)}


def _stimulus(name):
    return name.removesuffix("_presentations").removesuffix("_stimulus")


def _interval_tables(file):
    """Tables of intervals that are stimuli: name and group."""
    groups = file.get("intervals", {})
    return [
        (name, groups[name]) for name in groups if name not in _NOT_STIMULI and isinstance(groups[name], h5py.Group)
    ]


def _presentation_series(file):
    """Series of images or features with their times: name and group."""
    groups = file.get(_PRESENTATION, {})
    return [
        (name, group)
        for name, group in groups.items()
        if isinstance(group, h5py.Group)
        and text(group.attrs.get("neurodata_type", "")) in (_IMAGES, _FEATURES)
        and isinstance(group.get("data"), h5py.Dataset)
        and {"timestamps", "starting_time"} & set(group)
    ]


def epochs(file: h5py.File, timestamps: np.ndarray) -> pd.DataFrame:
    """The file's own epochs where it names them, else presentations that follow each other, joined."""
    if "intervals/epochs" in file:
        shown = _intervals(file["intervals/epochs"])
        column = next((name for name in _EPOCH_NAMES if name in shown), None)
        if column is not None:
            shown = _in_samples("epochs", shown.rename(columns={column: "stimulus"}), timestamps)
            return shown[["stimulus", "start", "end"]].reset_index(drop=True)
    found = tables(file, timestamps)
    if not found:
        raise SourceError(f"{file.filename}: no stimuli")
    rate = 1 / np.median(np.diff(timestamps)) if len(timestamps) > 1 else 0.0
    return stimuli.join(found, round(_PAUSE_S * rate))


def template(file: h5py.File, name: str) -> np.ndarray:
    """Images of a stimulus, (frame, y, x)."""
    there = list(file.get("stimulus/templates", ()))
    for found in (name, f"{name}_image_stack", f"{name}_template"):
        if found in there:
            return dataset(file, f"stimulus/templates/{found}/data", 3)[()]
    raise SourceError(f"{file.filename}: no images of stimulus {name!r}; it has {', '.join(there) or 'none'}")


def _intervals(group):
    """Columns of a table of intervals, those with one value a row; of lists of tags, the tags with commas between."""
    columns = {}
    for name, column in group.items():
        is_index = name.endswith("_index") and name.removesuffix("_index") in group
        if not isinstance(column, h5py.Dataset) or name == "id" or is_index:
            continue
        if f"{name}_index" in group:
            if column.dtype.kind in "SO" and not column.dtype.fields:
                ends = group[f"{name}_index"][()].astype(int)
                parts = np.split(np.array(text(column[()]), dtype=object), ends[:-1]) if len(ends) else []
                columns[name] = [", ".join(part) for part in parts]
        elif column.ndim == 1 and not column.dtype.fields:
            columns[name] = text(column[()]) if column.dtype.kind in "SO" else column[()]
    missing = [name for name in ("start_time", "stop_time") if name not in columns]
    if missing:
        raise SourceError(f"{group.file.filename}: {group.name} has no column {missing[0]}")
    for name in ("start_time", "stop_time"):
        if np.asarray(columns[name]).dtype.kind not in "iuf" or not np.isfinite(columns[name]).all():
            raise SourceError(f"{group.file.filename}: {group.name}/{name} holds what is no time")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise SourceError(f"{group.file.filename}: {group.name} has columns of different lengths: {lengths}")
    return pd.DataFrame(columns)


def _by_stimulus(shown, name):
    """A table that names the stimulus of each row is one table per stimulus, without what the stimulus has not."""
    if _NAME not in shown:
        return {name: shown}
    parts = shown.groupby(_NAME, sort=False)
    return {str(stimulus): part.drop(columns=_NAME).dropna(axis=1, how="all") for stimulus, part in parts}


def _series(group):
    """Presentations of a series of images or features: each lasts until the next."""
    data, where = group["data"], f"{group.file.filename}: {group.name}/data"
    if text(group.attrs["neurodata_type"]) == _IMAGES:
        features, rows = ["frame"], data[()].reshape(-1, 1).astype(np.int64)
    else:
        features, rows = text(dataset(group, "features", 1)), data[()].reshape(len(data), -1)
    if rows.shape[1] != len(features):
        raise SourceError(f"{where} has shape {data.shape}, expected {len(features)} columns: {', '.join(features)}")
    if "timestamps" in group:
        start = dataset(group, "timestamps", 1)[()].astype(np.float64)
    else:
        first = dataset(group, "starting_time", 0)
        start = first[()] + np.arange(len(rows)) / float(first.attrs["rate"])
    if len(start) != len(rows):
        raise SourceError(f"{where} has {len(rows)} rows and {len(start)} timestamps")
    last = np.median(np.diff(start)) if len(start) > 1 else 0.0
    shown = pd.DataFrame(rows, columns=features)
    return shown.assign(start_time=start, stop_time=np.append(start[1:], start[-1:] + last))


def _in_samples(name, shown, timestamps):
    """Rows in order of time; those outside the traces are left out, and the others say their first and last sample."""
    shown = shown.sort_values(["start_time", "stop_time"], kind="stable").rename(columns=_OTHER_NAMES)
    slack = _ROUNDING * np.median(np.diff(timestamps)) if len(timestamps) > 1 else 0.0
    start, end = (
        np.searchsorted(timestamps, shown[key].to_numpy(float) - slack) for key in ("start_time", "stop_time")
    )
    end -= 1
    inside = (start < len(timestamps)) & (end >= 0)
    shown = shown.assign(start=start, end=np.maximum(end, start))[inside].reset_index(drop=True)
    if "movie" in name and "frame" in shown and "repeat" not in shown:
        shown["repeat"] = shown.groupby("frame").cumcount()
    return shown
