"""NWB 2.x files with segmented planes."""

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd

from pyflow.units.sources import nwb_behavior, nwb_stimuli, stimuli
from pyflow.units.sources.base import Footprint, Source, SourceError, dataset, open_hdf5, take, text

# Columns that say which cell an ROI is in all sessions: AllenSDK's, ours.
ID_COLUMNS = ("cell_specimen_id", "multi_sess_unit")

# A series is of the first kind whose word is in its name or in the name or type of the group around it.
_KINDS = {
    "neuropil": ("neuropil",),
    "dff": ("dff", "dfoverf", "df_over_f", "deltaf"),
    "spikes": ("deconvolved", "spike", "event"),
    "denoised": ("denoised",),
    "demixed": ("demixed",),
    "corrected": ("corrected",),
    "fluorescence": ("",),
}
_IMAGES = {"max": "maximum projection", "mean": "mean image", "average": "mean image", "corr": "correlation image"}


class _Series(NamedTuple):
    """The place of a kind's traces: path of the series, its axis of ROIs, and its column for each ROI of the table."""

    path: str
    axis: int
    columns: dict[int, int]


def find(path: Path) -> list[Source]:
    """Sources in a file, one per segmented plane; none where it is another format."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return []
    with h5py.File(path, "r") as file:
        if not str(text(file.attrs.get("nwb_version", ""))).startswith("2"):
            return []
        places = _find_types(file, "PlaneSegmentation")
        return [NwbSource(path, place, place.split("/")[-1] if len(places) > 1 else "") for place in places]


def _find_types(file, *types):
    """Paths of the groups of some types among the results of processing."""
    found = []

    def visit(_, item):
        if isinstance(item, h5py.Group) and text(item.attrs.get("neurodata_type", "")) in types:
            found.append(item.name)

    if "processing" in file:
        file["processing"].visititems(visit)
    return found


class NwbSource(Source):
    """One PlaneSegmentation with its RoiResponseSeries.

    Parameters
    ----------
    path : Path
    table : str
        Path of the PlaneSegmentation in the file.
    group : str
        Name of the plane, empty where there is only one.
    """

    kind = "nwb"

    def __init__(self, path: str | Path, table: str, group: str = "") -> None:
        super().__init__(path, group)
        self.table = table

    @cached_property
    def roi_ids(self) -> np.ndarray:
        """Column ``id``."""
        with open_hdf5(self.path) as file:
            return dataset(file, f"{self.table}/id", 1)[()]

    @cached_property
    def cell_specimen_ids(self) -> np.ndarray | None:
        """The first of `ID_COLUMNS` that the table has."""
        with open_hdf5(self.path) as file:
            for name in ID_COLUMNS:
                if name in file[self.table]:
                    return np.asarray(text(dataset(file, f"{self.table}/{name}", 1)[()]))
        return None

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the plane.

        It is that of ``image_mask``. Where masks are lists of pixels it is that of the plane's image, and without an
        image as far as the pixels reach.
        """
        with open_hdf5(self.path) as file:
            if "image_mask" in file[self.table]:
                return dataset(file, f"{self.table}/image_mask", 3).shape[1:]
            if (found := self._find_image(file)) is not None:
                return found[0].shape
            y, x, _ = self._pixels(file, slice(None))
            return (int(y.max()) + 1, int(x.max()) + 1) if y.size else (0, 0)

    def footprint(self, row: int) -> Footprint:
        """Pixels of ``image_mask`` (ROI, row, column), ``pixel_mask`` (x, y, weight) or ``voxel_mask`` seen from above.

        Voxels (x, y, z, weight) that lie above each other are one pixel, which has the sum of their weights.
        """
        with open_hdf5(self.path) as file:
            table = file[self.table]
            if "image_mask" in table:
                mask = dataset(table, "image_mask", 3)[row]
                y, x = np.nonzero(mask)
                return Footprint(y, x, mask[y, x].astype(np.float32))
            name = self._list_of_pixels(file)
            ends = dataset(table, f"{name}_index", 1)
            y, x, weight = self._pixels(file, slice(int(ends[row - 1]) if row else 0, int(ends[row])))
        if y.size and not (y.max() < self.shape[0] and x.max() < self.shape[1]):
            raise SourceError(
                f"{self.path}: {self.table}/{name}: ROI {row} reaches (y, x) = ({y.max()}, {x.max()}) outside "
                f"the image {self.shape}"
            )
        if name == "voxel_mask":
            (y, x), column = np.unique(np.stack([y, x]), axis=1, return_inverse=True)
            weight = np.bincount(column.ravel(), weight, minlength=len(y))
        return Footprint(y, x, weight.astype(np.float32))

    def _list_of_pixels(self, file):
        """Name of the column that lists the pixels of the ROIs."""
        for name in ("pixel_mask", "voxel_mask"):
            if name in file[self.table]:
                return name
        raise SourceError(f"{self.path}: {self.table} has neither image_mask nor pixel_mask nor voxel_mask")

    def _pixels(self, file, part):
        """Rows, columns and weights of a part of the list of all ROIs' pixels."""
        pixels = dataset(file, f"{self.table}/{self._list_of_pixels(file)}", 1)[part]
        x, y = pixels["x"].astype(np.int64), pixels["y"].astype(np.int64)
        if text(file.get("session_description", "")) == "suite2p_proc":
            x, y = y, x  # suite2p writes rows as x
        return y, x, pixels["weight"]

    def _find_image(self, file):
        """Data set and name of the plane's best image, None where there is none."""
        images = {}

        def visit(_, item):
            if isinstance(item, h5py.Dataset) and item.ndim == 2 and "neurodata_type" in item.attrs:
                images[item.name] = item

        for name in _find_types(file, "Images"):
            file[name].visititems(visit)
        for word, what in _IMAGES.items():
            fitting = {name: image for name, image in images.items() if word in name.split("/")[-1].lower()}
            if len(fitting) > 1 and self.group:
                fitting = {name: image for name, image in fitting.items() if self.group.lower() in name.lower()}
            if len(fitting) == 1:
                return *fitting.values(), what
            if fitting:
                raise SourceError(f"{self.path}: which image belongs to {self.table}: {', '.join(fitting)}?")
        return None

    def image(self) -> tuple[np.ndarray, str]:
        """The image that is called a maximum projection, else a mean or correlation image, else all masks in one."""
        with open_hdf5(self.path) as file:
            if (found := self._find_image(file)) is not None:
                return found[0][()], found[1]
        drawn = np.zeros(self.shape, np.float32)
        for row in range(len(self.roi_ids)):
            y, x, _ = self.footprint(row)
            drawn[y, x] += 1
        return drawn, "masks"

    @cached_property
    def _series(self):
        series = {}
        with open_hdf5(self.path) as file:
            tables = _find_types(file, "PlaneSegmentation")
            for path in _find_types(file, "RoiResponseSeries"):
                rois = dataset(file, f"{path}/rois", 1)
                reference = rois.attrs.get("table")
                table = file[reference].name if reference else tables[0]
                if table != self.table:
                    continue
                data = dataset(file, f"{path}/data", 2)
                # Time comes first, but writers have had it otherwise.
                axis = 1 if data.shape[1] == len(rois) else 0
                if data.shape[axis] != len(rois):
                    raise SourceError(
                        f"{self.path}: {path}/data has shape {data.shape}, expected (T, {len(rois)}), as rois says"
                    )
                kind = self._kind(file[path])
                if kind in series:
                    raise SourceError(f"{self.path}: both {series[kind].path} and {path} seem to hold {kind} traces")
                series[kind] = _Series(path, axis, {int(roi): column for column, roi in enumerate(rois[()])})
        return series

    @staticmethod
    def _kind(series):
        parent = series.parent
        around = (parent.name.split("/")[-1], str(text(parent.attrs.get("neurodata_type", ""))))
        own = series.name.split("/")[-1]
        # A name says more than what is around it: "Neuropil" may be in a group called "Fluorescence".
        for names in ((own,), around):
            for kind, words in _KINDS.items():
                if any(word and word in name.lower() for word in words for name in names):
                    return kind
        return "fluorescence"

    @property
    def trace_kinds(self) -> tuple[str, ...]:
        """Kinds of the series that refer to this plane."""
        return tuple(self._series)

    def _timestamps(self, kind):
        path, axis, _ = self._series[kind]
        with open_hdf5(self.path) as file:
            if "timestamps" in file[path]:
                return dataset(file, f"{path}/timestamps", 1)[()]
            start = dataset(file, f"{path}/starting_time", 0)
            n = file[path]["data"].shape[1 - axis]
            return start[()] + np.arange(n) / float(start.attrs["rate"])

    def _traces(self, kind, rows):
        path, axis, columns = self._series[kind]
        missing = [int(row) for row in rows if int(row) not in columns]
        if missing:
            raise SourceError(f"{self.path}: {path} has no trace of ROI {self.roi_ids[missing[0]]}")
        with open_hdf5(self.path) as file:
            return take(file[path]["data"], [columns[int(row)] for row in rows], axis)

    @cached_property
    def _stimulus_tables(self):
        with open_hdf5(self.path) as file:
            return nwb_stimuli.tables(file, self._clock)

    @cached_property
    def _clock(self):
        """Times of the traces' samples, in which stimuli are counted."""
        kinds = self.trace_kinds
        return self.timestamps("fluorescence" if "fluorescence" in kinds else kinds[0]) if kinds else np.empty(0)

    def stimuli(self) -> list[str]:
        """Names of the tables below ``intervals``, or of the stimuli in them, and of series of images or features."""
        with open_hdf5(self.path) as file:
            return nwb_stimuli.names(file)

    def stimulus_table(self, name: str) -> pd.DataFrame:
        """When a stimulus was shown; also `start_time` and `stop_time`, seconds, and the file's other columns."""
        tables = self._stimulus_tables
        if name == "master" and tables:
            return stimuli.master(tables)
        if name not in tables:
            raise SourceError(f"{self.path}: no stimulus {name!r}; it has {', '.join(tables) or 'none'}")
        return tables[name].copy()

    def stimulus_epochs(self) -> pd.DataFrame:
        """The table ``intervals/epochs``; without it, stretches with one stimulus."""
        with open_hdf5(self.path) as file:
            return nwb_stimuli.epochs(file, self._clock)

    def stimulus_template(self, name: str) -> np.ndarray:
        """Images of a stimulus."""
        with open_hdf5(self.path) as file:
            return nwb_stimuli.template(file, name)

    def running_speed(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the series that is called speed of running."""
        with open_hdf5(self.path) as file:
            return nwb_behavior.running_speed(file)

    def pupil(self, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Read the containers EyeTracking and PupilTracking; see `pyflow.units.sources.nwb_behavior.pupil`."""
        with open_hdf5(self.path) as file:
            return nwb_behavior.pupil(file, what)

    def experiment(self) -> dict[str, Any]:
        """The metadata, whether there is eye tracking, and the stimuli."""
        shown = self.stimuli()
        with open_hdf5(self.path) as file:
            found = self.metadata() | {"fail_eye_tracking": not nwb_behavior.has_eye_tracking(file)}
        return found | ({"stimuli": shown} if shown else {})

    def metadata(self) -> dict[str, Any]:
        """AllenSDK's keys, from where NWB 2 keeps them; those that the file lacks are None."""
        with open_hdf5(self.path) as file:
            read = lambda place: text(file[place]) if isinstance(file.get(place), h5py.Dataset) else None  # noqa: E731
            start = read("session_start_time")
            link = file[self.table].get("imaging_plane", {})
            plane = {name: text(link[name]) for name in ("location", "indicator", "excitation_lambda") if name in link}
            return {
                "identifier": read("identifier"),
                "session_id": read("general/session_id"),
                "session_description": read("session_description"),
                "session_start_time": start and pd.Timestamp(start).to_pydatetime(),
                "targeted_structure": plane.get("location"),
                "indicator": plane.get("indicator"),
                "excitation_lambda": plane.get("excitation_lambda"),
                "genotype": read("general/subject/genotype"),
                "sex": read("general/subject/sex"),
                "specimen_name": read("general/subject/subject_id"),
            }
