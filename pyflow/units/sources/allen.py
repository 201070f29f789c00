"""Allen Brain Observatory files: NWB 1.0."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from pyflow.io.unpickle import load_npz
from pyflow.units.sources import stimuli
from pyflow.units.sources.base import Footprint, Source, SourceError, dataset, open_hdf5, take, text, translations

_PIPELINE = "processing/brain_observatory_pipeline"
_SEGMENTATION = f"{_PIPELINE}/ImageSegmentation"
_PLANE = f"{_SEGMENTATION}/imaging_plane_1"
_FLUORESCENCE = f"{_PIPELINE}/Fluorescence/imaging_plane_1"
_DEMIXED = f"{_FLUORESCENCE}_demixed_signal"
_NEUROPIL = f"{_FLUORESCENCE}_neuropil_response"
_DFF = f"{_PIPELINE}/DfOverF/imaging_plane_1"
# The name changed with version 1.0 of their pipeline.
_TRANSLATIONS = [f"{_PIPELINE}/MotionCorrection/2p_image_series/xy_translation{s}" for s in ("s", "")]

_RUNNING = f"{_PIPELINE}/BehavioralTimeSeries/running_speed"
_PUPIL = {
    "location": f"{_PIPELINE}/EyeTracking/pupil_location",
    "location_spherical": f"{_PIPELINE}/EyeTracking/pupil_location_spherical",
    "size": f"{_PIPELINE}/PupilTracking/pupil_size",
}

_METADATA = {
    "sex": "general/subject/sex",
    "targeted_structure": "general/optophysiology/imaging_plane_1/location",
    "ophys_experiment_id": "general/session_id",
    "experiment_container_id": "general/experiment_container_id",
    "excitation_lambda": "general/optophysiology/imaging_plane_1/excitation_lambda",
    "indicator": "general/optophysiology/imaging_plane_1/indicator",
    "fov": "general/fov",
    "genotype": "general/subject/genotype",
    "session_start_time": "session_start_time",
    "session_type": "general/session_type",
    "specimen_name": "general/specimen_name",
}


def find(path: Path) -> list[Source]:
    """Sources in a file: one, or none where it is another format."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return []
    with h5py.File(path, "r") as file:
        return [AllenSource(path)] if _SEGMENTATION in file else []


class AllenSource(Source):
    """One session of the Allen Brain Observatory."""

    kind = "allen"

    @cached_property
    def roi_ids(self) -> np.ndarray:
        """Allen's ROI ids, (N,) int."""
        return self._column("roi_ids")

    @cached_property
    def cell_specimen_ids(self) -> np.ndarray | None:
        """Allen's cell specimen ids, (N,) int."""
        return self._column("cell_specimen_ids")

    @cached_property
    def experiment_id(self) -> int | None:
        """Allen's experiment id, int."""
        with open_hdf5(self.path) as file:
            return int(text(dataset(file, _METADATA["ophys_experiment_id"])))

    def _column(self, name):
        with open_hdf5(self.path) as file:
            return dataset(file, f"{_SEGMENTATION}/{name}", 1)[()]

    @cached_property
    def _roi_names(self):
        with open_hdf5(self.path) as file:
            names = text(dataset(file, f"{_PLANE}/roi_list", 1))
        if len(names) != len(self.roi_ids):
            raise SourceError(
                f"{self.path}: {_PLANE}/roi_list names {len(names)} ROIs, roi_ids has {len(self.roi_ids)}"
            )
        return names

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Height and width, of the maximum projection."""
        with open_hdf5(self.path) as file:
            return self._projection(file).shape

    def footprint(self, row: int) -> Footprint:
        """Pixels of `img_mask`."""
        with open_hdf5(self.path) as file:
            mask = dataset(file, f"{_PLANE}/{self._roi_names[row]}/img_mask", 2)
            if mask.shape != self.shape:
                raise SourceError(f"{self.path}: {mask.name} has shape {mask.shape}, the image has {self.shape}")
            mask = mask[()]
        y, x = np.nonzero(mask)
        return Footprint(y, x, mask[y, x].astype(np.float32))

    @staticmethod
    def _projection(file):
        return dataset(file, f"{_PLANE}/reference_images/maximum_intensity_projection_image/data", 2)

    def image(self) -> tuple[np.ndarray, str]:
        """The maximum projection."""
        with open_hdf5(self.path) as file:
            return self._projection(file)[()], "maximum projection"

    @cached_property
    def _places(self):
        """Data set of each kind; those that are computed have none."""
        with open_hdf5(self.path) as file:
            new = _NEUROPIL in file  # demixed before the neuropil is subtracted, since version 2.0 of their pipeline
            places = {
                "fluorescence": f"{_FLUORESCENCE}/data",
                "neuropil": f"{_NEUROPIL}/data" if new else f"{_FLUORESCENCE}/neuropil_traces",
                "demixed": f"{_DEMIXED}/data",
                "dff": f"{_DFF}/data",
                "r": f"{_NEUROPIL}/r" if new else f"{_FLUORESCENCE}/r",
            }
            places = {kind: place for kind, place in places.items() if place in file}
        if self._events.is_file():
            places["spikes"] = None
        if {"neuropil", "r", "demixed" if new else "fluorescence"} <= places.keys():
            places["corrected"] = places["demixed" if new else "fluorescence"]
        return places

    @property
    def _events(self):
        """File of events beside this one, where AllenSDK's cache has it."""
        return self.path.absolute().parents[1] / "ophys_experiment_events" / f"{self.path.stem}_events.npz"

    @property
    def trace_kinds(self) -> tuple[str, ...]:
        """``fluorescence``, ``neuropil``, ``demixed``, ``corrected`` (by the neuropil), ``dff``; those there are.

        And ``spikes``, magnitudes of events, where ``ophys_experiment_events/<id>_events.npz`` is beside the folder.
        """
        return tuple(kind for kind in self._places if kind != "r")

    def _timestamps(self, kind):
        with open_hdf5(self.path) as file:
            return dataset(file, f"{_DFF if kind in ('dff', 'spikes') else _FLUORESCENCE}/timestamps", 1)[()]

    def _traces(self, kind, rows):
        if kind == "spikes":
            events = load_npz(self._events, "ev")
            if events.ndim != 2 or len(events) != len(self.roi_ids):
                raise SourceError(f"{self._events}: ev has shape {events.shape}, expected ({len(self.roi_ids)}, T)")
            return events[rows]
        with open_hdf5(self.path) as file:
            traces = take(dataset(file, self._places[kind], 2), rows)
            if kind == "corrected":
                neuropil = take(dataset(file, self._places["neuropil"], 2), rows)
                traces = traces - neuropil * take(dataset(file, self._places["r"], 1), rows)[:, np.newaxis]
            return traces

    def stimuli(self) -> list[str]:
        """Names of the stimuli."""
        with open_hdf5(self.path) as file:
            return stimuli.names(file)

    def stimulus_table(self, name: str) -> pd.DataFrame:
        """When a stimulus was shown."""
        if name == "master":
            return stimuli.master(self._stimulus_tables())
        with open_hdf5(self.path) as file:
            return stimuli.table(file, name)

    def stimulus_epochs(self) -> pd.DataFrame:
        """Stretches with one stimulus."""
        return stimuli.epochs(self._stimulus_tables(), self.metadata()["session_type"])

    def _stimulus_tables(self):
        with open_hdf5(self.path) as file:
            tables = {name: stimuli.table(file, name) for name in stimuli.names(file)}
        if not tables:
            raise SourceError(f"{self.path}: no stimuli")
        return tables

    def stimulus_template(self, name: str) -> np.ndarray:
        """Images of a stimulus."""
        with open_hdf5(self.path) as file:
            return stimuli.template(file, name)

    def running_speed(self) -> tuple[np.ndarray, np.ndarray]:
        """Sample by sample of the fluorescence, from where it was measured on."""
        with open_hdf5(self.path) as file:
            speed = dataset(file, f"{_RUNNING}/data")[()]
            times = dataset(file, f"{_RUNNING}/timestamps", 1)[()]
        speed = speed[:, 0] if speed.ndim == 2 else speed  # a column in version 0.9 of their pipeline
        if len(speed) != len(times):
            raise SourceError(f"{self.path}: {_RUNNING} has {len(speed)} values and {len(times)} timestamps")
        samples = self.timestamps("fluorescence")
        before = int(np.searchsorted(samples, times[0])) if len(times) else 0
        before = before if before < len(samples) and samples[before] == times[0] else 0
        after = max(len(samples) - before - len(times), 0)
        times = np.concatenate([samples[:before], times, samples[len(samples) - after :]])
        return np.pad(speed.astype(np.float64), (before, after), constant_values=np.nan), times

    def pupil(self, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Return what eye tracking found of the pupil, which not all sessions have."""
        with open_hdf5(self.path) as file:
            if _PUPIL[what] not in file:
                raise SourceError(f"{self.path}: no eye tracking ({_PUPIL[what]})")
            return dataset(file, f"{_PUPIL[what]}/timestamps", 1)[()], dataset(file, f"{_PUPIL[what]}/data")[()]

    def neuropil_r(self, rows: Sequence[int]) -> np.ndarray:
        """Share of the neuropil that is subtracted."""
        if "r" not in self._places:
            return super().neuropil_r(rows)
        with open_hdf5(self.path) as file:
            return take(dataset(file, self._places["r"], 1), rows)

    def experiment(self) -> dict[str, Any]:
        """The metadata, and what AllenSDK lists beside it."""
        found = self.metadata()
        lines = [line.split("/")[0] for line in (found["genotype"] or "").split(";") if line]  # "/wt": one allele
        with open_hdf5(self.path) as file:
            fail_eye_tracking = f"{_PIPELINE}/EyeTracking" not in file
        return found | {
            "cre_line": next((line for line in lines if "Cre" in line), None),
            "reporter_line": next((line for line in lines if re.match(r"Ai\d", line)), None),
            "transgenic_lines": lines,
            "donor_name": _first(r".*-(\d+)$", found["specimen_name"]),
            "fail_eye_tracking": fail_eye_tracking,
            "stimuli": self.stimuli() or stimuli.stimuli_of(found["session_type"]),
        }

    def metadata(self) -> dict[str, Any]:
        """AllenSDK's keys; those that the file lacks are None."""
        with open_hdf5(self.path) as file:
            read = lambda place: text(file[place]) if place in file else None  # noqa: E731
            found = {key: read(place) for key, place in _METADATA.items()}
            age, depth = read("general/subject/age"), read("general/optophysiology/imaging_plane_1/imaging depth")
            device, version = read("general/devices/2-photon microscope"), read("general/generated_by")
        for key in ("ophys_experiment_id", "experiment_container_id"):
            found[key] = found[key] and int(found[key])
        found["session_start_time"] = (
            found["session_start_time"] and pd.Timestamp(found["session_start_time"]).to_pydatetime()
        )
        found["cre_line"] = found["genotype"] and found["genotype"].split(";")[0]
        found["imaging_depth_um"] = depth and int(depth.split()[0])
        found["age_days"] = _first(r"(\d+) days", age)
        found["age_days"] = found["age_days"] and int(found["age_days"])
        found["device"] = _first(r"(.*?)\.\s", device)
        found["device_name"] = _first(r".*?\.\s(.*?)\sPlease", device)
        found["pipeline_version"] = version[-1] if version else "0.9"
        return found

    def motion_correction(self) -> pd.DataFrame:
        """Translations of the frames."""
        with open_hdf5(self.path) as file:
            for place in _TRANSLATIONS:
                if place in file:
                    names = text(dataset(file, f"{place}/feature_description"))
                    moves = dict(zip(names, dataset(file, f"{place}/data", 2)[()].T, strict=True))
                    times = dataset(file, f"{place}/timestamps", 1)[()]
                    return translations(moves["x_motion"], moves["y_motion"], times)
        raise SourceError(f"{self.path}: no {' or '.join(_TRANSLATIONS)}")


def _first(pattern, value):
    found = re.match(pattern, value or "")
    return found and found[1]
