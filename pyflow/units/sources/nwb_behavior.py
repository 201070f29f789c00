"""What an animal did, as NWB 2 files keep it: how fast it ran, where its eye was and how large the pupil."""

import re
from collections.abc import Callable

import h5py
import numpy as np

from pyflow.units.sources.base import SourceError, dataset, text

_RUNNING = re.compile(r"(^|/)(running/speed|running_speed|BehavioralTimeSeries/speed)$")
_GAZE, _PUPIL, _ELLIPSES = "EyeTracking", "PupilTracking", "EllipseEyeTracking"
_SIZE = re.compile("area|size", re.IGNORECASE)
_ANGLES = {"degree": 1.0, "degrees": 1.0, "deg": 1.0, "radian": 180 / np.pi, "radians": 180 / np.pi, "rad": 180 / np.pi}
_CENTIMETRES = {"meters": 100.0, "meter": 100.0, "m": 100.0, "millimeters": 0.1, "mm": 0.1}


def running_speed(file: h5py.File) -> tuple[np.ndarray, np.ndarray]:
    """Speed and timestamps, of the series that is called speed of running; see `Source.running_speed`."""
    found = _groups(file, lambda name, item: _RUNNING.search(name) and "data" in item)
    times, speed = _series(_the_only(file, "running speed", found))
    if speed.ndim != 1:
        raise SourceError(f"{file.filename}: {found[0].name}/data has shape {speed.shape}, expected 1 dimension")
    return speed, times


def has_eye_tracking(file: h5py.File) -> bool:
    """Whether there is a container of eye or pupil tracking."""
    return bool(_of_types(file, _GAZE, _PUPIL, _ELLIPSES))


def pupil(file: h5py.File, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Timestamps and values; see `Source.pupil`.

    Sizes are those of ``PupilTracking``, or areas of the ellipses of ``EllipseEyeTracking`` (ndx-ellipse-eye-tracking),
    in the file's unit. Places are those of ``EyeTracking``: a series in degrees or radians is the spherical one,
    lengths become centimetres, and others (pixels) stay as they are.
    """
    if what == "size":
        found = [series for group in _of_types(file, _PUPIL) for series in _children(group)]
        named = [series for series in found if _SIZE.search(series.name.split("/")[-1])]
        found = named if len(named) == 1 else found
        ellipses = [group["pupil_tracking"] for group in _of_types(file, _ELLIPSES) if "pupil_tracking" in group]
        if ellipses and not found:
            return _series(_the_only(file, "pupil size", ellipses), "area")
        times, values = _series(_the_only(file, "pupil size", found))
        return times, values.reshape(len(values)) if values.size == len(values) else values
    of_angles = what == "location_spherical"
    found = [series for group in _of_types(file, _GAZE) for series in _children(group)]
    found = [series for series in found if (_unit(series) in _ANGLES) == of_angles]
    series = _the_only(file, f"pupil {what}", found)
    times, values = _series(series)
    if values.ndim != 2 or values.shape[1] != 2:
        raise SourceError(f"{file.filename}: {series.name}/data has shape {values.shape}, expected (n, 2)")
    return times, values * (_ANGLES if of_angles else _CENTIMETRES).get(_unit(series), 1.0)


def _unit(series):
    return str(text(dataset(series, "data").attrs.get("unit", ""))).lower()


def _children(group):
    return [item for item in group.values() if isinstance(item, h5py.Group) and "data" in item]


def _of_types(file, *types):
    return _groups(file, lambda _, item: text(item.attrs.get("neurodata_type", "")) in types)


def _groups(file: h5py.File, wanted: Callable) -> list[h5py.Group]:
    """Groups among what was acquired or processed, chosen by name and content."""
    found = []
    for place in ("acquisition", "processing"):
        if isinstance(file.get(place), h5py.Group):
            file[place].visititems(
                lambda name, item: found.append(item) if isinstance(item, h5py.Group) and wanted(name, item) else None
            )
    return found


def _the_only(file, what, found):
    if len(found) != 1:
        there = ", ".join(item.name for item in found) or "none"
        raise SourceError(f"{file.filename}: expected one series of {what}, found {there}")
    return found[0]


def _series(series, name="data"):
    """Timestamps and values of a series, in its unit."""
    data = dataset(series, name)
    values = data[()] * data.attrs["conversion"] if data.attrs.get("conversion", 1) != 1 else data[()]
    if "timestamps" in series:
        times = dataset(series, "timestamps", 1)[()]
    else:
        first = dataset(series, "starting_time", 0)
        times = first[()] + np.arange(len(values)) / float(first.attrs["rate"])
    if len(values) != len(times):
        raise SourceError(f"{series.file.filename}: {series.name} has {len(values)} values and {len(times)} timestamps")
    return times, values
