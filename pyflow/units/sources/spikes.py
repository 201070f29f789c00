"""Sorted units and their spikes: folders of phy, Kilosort and SpikeInterface, and the table of units in NWB files."""

import json
import math
import re
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import h5py
import numpy as np

from pyflow.io.unpickle import load_npy, load_npz
from pyflow.units.sources.base import SourceError, dataset, open_hdf5, text

Span = tuple[int, int]
"""First sample of a session in a recording of several, and the first one after it."""

_CLUSTERS = ("spike_clusters.npy", "spike_templates.npy")  # phy's clusters; before curation they are the templates
_LOUD = 0.2  # share of the largest channel's amplitude that counts for a unit's place
_DEPTHS = ("depth", "depth_um", "estimated_y", "y")  # columns of NWB's table of units
_MOST_SPIKES = 20_000  # of a unit that its depth is taken from


class Waveform(NamedTuple):
    """A unit's mean waveform.

    Attributes
    ----------
    samples : ndarray, shape (T, C), float32
        In microvolts where the source keeps them, else in the sorter's units.
    times_s : ndarray, shape (T,)
        From the waveform's largest trough.
    positions_um : ndarray, shape (C, 2)
        Of the channels: across and along the probe; NaN where unknown.
    """

    samples: np.ndarray
    times_s: np.ndarray
    positions_um: np.ndarray

    @property
    def loudest(self) -> int:
        """The channel with the largest amplitude."""
        return int(np.argmax(np.ptp(self.samples, axis=0)))


class SpikeSource(ABC):
    """Sorted units of one session.

    Opening reads nothing. A unit is named by its row: its place, from 0, in `unit_ids`.

    Parameters
    ----------
    path : path-like
        File or folder.
    span : (start, end), optional
        The session's samples, where several were sorted as one recording; times are counted from its start.
    """

    kind: ClassVar[str]
    """Name of the format, as the unit store keeps it."""

    def __init__(self, path: str | Path, span: Span | None = None) -> None:
        self.path, self.span = Path(path), span

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    @cached_property
    @abstractmethod
    def unit_ids(self) -> np.ndarray:
        """The source's own ids of its units, (N,)."""

    @cached_property
    @abstractmethod
    def sampling_rate_hz(self) -> float:
        """Samples per second."""

    @abstractmethod
    def _spikes(self, row):
        """Times of all spikes of a unit in the whole recording, seconds."""

    @abstractmethod
    def waveform(self, row: int) -> Waveform | None:
        """`Waveform` of a unit, None where the source keeps none."""

    def depth_um(self, row: int) -> float:
        """Place of a unit along its probe; NaN where the source does not know it."""
        found = self.waveform(row)
        if found is None:
            return math.nan
        loud = np.ptp(found.samples, axis=0)
        weight = np.where(loud >= _LOUD * loud.max(), loud, 0.0) ** 2
        return float((weight * found.positions_um[:, 1]).sum() / weight.sum()) if weight.sum() else math.nan

    def spike_times_s(self, row: int) -> np.ndarray:
        """Times of a unit's spikes, (n,) float64 seconds, from the session's start."""
        times = self._spikes(row)
        if self.span is None:
            return times
        start, end = (sample / self.sampling_rate_hz for sample in self.span)
        return times[(times >= start) & (times < end)] - start

    @cached_property
    def duration_s(self) -> float:
        """Length of the session; where the source does not know it, up to the last spike of all units."""
        if self.span is not None:
            return (self.span[1] - self.span[0]) / self.sampling_rate_hz
        return max((times[-1] for row in range(len(self.unit_ids)) if len(times := self._spikes(row))), default=0.0)

    def row(self, unit: str) -> int:
        """Row of the unit with this id.

        Raises
        ------
        SourceError
            There is none.
        """
        found = np.flatnonzero(self.unit_ids.astype(str) == unit)
        if not len(found):
            raise SourceError(f"{self.path}: no unit {unit!r} among its {len(self.unit_ids)} units")
        return int(found[0])


def _from_trough(samples, rate):
    """Times of a waveform's samples from its largest trough."""
    at = int(np.argmin(samples[:, int(np.argmax(np.ptp(samples, axis=0)))])) if samples.size else 0
    return (np.arange(len(samples)) - at) / rate


class PhySource(SpikeSource):
    """A folder of Kilosort 2 to 4 or phy.

    Templates are unwhitened where the folder has ``whitening_mat_inv.npy``. A unit's depth is that of its spikes: of
    ``spike_positions.npy`` (Kilosort 4) or the features (Kilosort 2 and 3), else of its template.
    """

    kind = "phy"

    def _load(self, *names, mmap=False):
        """The first of these files that is there, None without any."""
        path = next((self.path / name for name in names if (self.path / name).exists()), None)
        return None if path is None else load_npy(path, mmap=mmap)

    @cached_property
    def sampling_rate_hz(self) -> float:
        """Samples per second as ``params.py`` says, a file that is read and not run."""
        path = self.path / "params.py"
        if not path.exists():
            raise SourceError(f"{path}: no such file; its sample_rate turns samples into seconds")
        found = re.search(r"^\s*sample_rate\s*=\s*([\d.eE+]+)", path.read_text(errors="replace"), re.MULTILINE)
        if not found or not float(found[1]) > 0:
            raise SourceError(f"{path}: no line 'sample_rate = ...'")
        return float(found[1])

    @cached_property
    def _of_spike(self):
        """Sample and cluster of each spike, by time."""
        samples, clusters = load_npy(self.path / "spike_times.npy").ravel(), self._load(*_CLUSTERS)
        if clusters is None:
            raise SourceError(f"{self.path}: neither {' nor '.join(_CLUSTERS)}")
        if len(samples) != clusters.size:
            raise SourceError(f"{self.path}: {len(samples)} spike times, but {clusters.size} clusters")
        return samples, clusters.ravel()

    @cached_property
    def _by_unit(self):
        """Ids of the clusters that have spikes, and the places of each one's spikes among all."""
        clusters = self._of_spike[1]
        ids, counts = np.unique(clusters, return_counts=True)
        return ids, np.split(np.argsort(clusters, kind="stable"), np.cumsum(counts)[:-1])

    @cached_property
    def unit_ids(self) -> np.ndarray:
        """Clusters that have spikes."""
        return self._by_unit[0]

    def _places(self, row):
        """Places among all spikes of a unit's spikes in the session."""
        places = self._by_unit[1][row]
        if self.span is None:
            return places
        samples = self._of_spike[0][places]
        return places[(samples >= self.span[0]) & (samples < self.span[1])]

    def _spikes(self, row):
        return np.sort(self._of_spike[0][self._by_unit[1][row]]) / self.sampling_rate_hz

    @cached_property
    def _templates(self):
        """Templates on all channels, (n, T, C) unwhitened; None without."""
        templates = self._load("templates.npy")
        if templates is None:
            return None
        positions, index = self._positions, self._load("templates_ind.npy", "template_ind.npy")
        if index is not None:  # each template's channels, in an order of its own; out of range: none
            if index.shape != (len(templates), templates.shape[2]):
                expected = (len(templates), templates.shape[2])
                raise SourceError(f"{self.path}: channels of templates have shape {index.shape}, expected {expected}")
            n_channels = int(index.max()) + 1 if positions is None else len(positions)
            whole = np.zeros((*templates.shape[:2], n_channels + 1), np.float32)  # the last one for "none"
            index = np.where((index < 0) | (index >= n_channels), n_channels, index).astype(int)
            for template, part, channels in zip(whole, templates, index, strict=True):
                template[:, channels] = part
            templates = whole[:, :, :n_channels]
        unwhiten = self._load("whitening_mat_inv.npy")
        if unwhiten is not None and unwhiten.shape == (templates.shape[2],) * 2:
            templates = templates @ unwhiten
        return templates.astype(np.float32)

    @cached_property
    def _positions(self):
        return self._load("channel_positions.npy")

    def waveform(self, row: int) -> Waveform | None:
        """Mean of the templates of the unit's spikes."""
        templates = self._templates
        if templates is None:
            return None
        of_spike = self._load("spike_templates.npy")
        if of_spike is None:
            used, counts = np.array([self.unit_ids[row]]), np.ones(1)
        else:
            used, counts = np.unique(of_spike.ravel()[self._places(row)], return_counts=True)
        inside = used < len(templates)
        if not inside.any():
            return None
        samples = np.average(templates[used[inside].astype(int)], axis=0, weights=counts[inside]).astype(np.float32)
        positions = self._positions
        if positions is None or len(positions) != samples.shape[1]:
            positions = np.full((samples.shape[1], 2), np.nan)
        return Waveform(samples, _from_trough(samples, self.sampling_rate_hz), positions)

    def depth_um(self, row: int) -> float:
        """Median depth of the unit's spikes in the session, where the sorter kept it; else of its template."""
        places = self._places(row)
        places = places[:: max(1, len(places) // _MOST_SPIKES)]
        positions = self._load("spike_positions.npy", mmap=True)
        if positions is not None and len(places):
            return float(np.median(np.asarray(positions[np.sort(places)])[:, 1]))
        features, index = self._load("pc_features.npy", mmap=True), self._load("pc_feature_ind.npy")
        of_spike = self._load("spike_templates.npy")
        if features is None or index is None or of_spike is None or self._positions is None or not len(places):
            return super().depth_um(row)
        places = np.sort(places)
        first = (
            np.maximum(np.asarray(features[places])[:, 0], 0.0) ** 2
        )  # of the first principal component, as phy does
        depth = self._positions[index[of_spike.ravel()[places].astype(int)].astype(int), 1]
        weight = first.sum(axis=1)
        known = weight > 0
        return float(np.median((first * depth).sum(axis=1)[known] / weight[known])) if known.any() else math.nan


class SpikeInterfaceSource(SpikeSource):
    """A sorting that SpikeInterface saved as a folder, alone (``numpy_folder``, ``npz_folder``) or in an analyzer."""

    kind = "spikeinterface"

    @cached_property
    def _folder(self):
        inside = self.path / "sorting"
        return inside if _is_sorting(inside) else self.path

    @cached_property
    def _sorting(self):
        """Ids, rate, and per spike: time in seconds and row of the unit."""
        info = self._folder / "numpysorting_info.json"
        if info.exists():
            try:
                said = json.loads(info.read_text(encoding="utf-8"))
                ids, rate, segments = said["unit_ids"], float(said["sampling_frequency"]), int(said["num_segments"])
            except (ValueError, KeyError, TypeError) as error:
                raise SourceError(f"{info}: not what SpikeInterface writes: {error!r}") from error
            self._refuse_segments(segments)
            spikes = np.load(self._folder / "spikes.npy", allow_pickle=False)
            return np.asarray(ids), rate, spikes["sample_index"], spikes["unit_index"]
        path = self._folder / "sorting_cached.npz"
        self._refuse_segments(int(np.ravel(load_npz(path, "num_segment"))[0]))
        ids, rate = load_npz(path, "unit_ids"), float(np.ravel(load_npz(path, "sampling_frequency"))[0])
        labels, samples = load_npz(path, "spike_labels_seg0"), load_npz(path, "spike_indexes_seg0")
        order = np.argsort(ids)
        return ids, rate, samples, order[np.searchsorted(ids, labels, sorter=order)]

    def _refuse_segments(self, n):
        if n != 1:
            raise SourceError(f"{self._folder}: {n} segments, expected one session")

    @cached_property
    def unit_ids(self) -> np.ndarray:
        """The units' ids in the sorting."""
        return self._sorting[0]

    @cached_property
    def sampling_rate_hz(self) -> float:
        """Samples per second, of the sorting."""
        return self._sorting[1]

    def _spikes(self, row):
        _, rate, samples, rows = self._sorting
        return np.sort(samples[rows == row]) / rate

    def waveform(self, row: int) -> Waveform | None:
        """Return the waveform from the analyzer's templates."""
        path = self.path / "extensions" / "templates" / "average.npy"
        if not path.exists():
            return None
        samples = np.asarray(load_npy(path, mmap=True)[row], dtype=np.float32)
        return Waveform(samples, _from_trough(samples, self.sampling_rate_hz), self._positions(samples.shape[1]))

    def _positions(self, n):
        path = self.path / "recording_info" / "probegroup.json"
        if path.exists():
            probes = json.loads(path.read_text(encoding="utf-8"))["probes"]
            places = np.concatenate([np.asarray(probe["contact_positions"], float)[:, :2] for probe in probes])
            wired = np.concatenate(
                [
                    np.asarray(probe.get("device_channel_indices", range(len(probe["contact_positions"]))))
                    for probe in probes
                ]
            )
            places = places[np.argsort(wired[wired >= 0], kind="stable")] if (wired >= 0).all() else places
            if len(places) == n:
                return places
        return np.full((n, 2), np.nan)

    def depth_um(self, row: int) -> float:
        """Return the depth from the analyzer's unit locations, and without them from its templates."""
        path = self.path / "extensions" / "unit_locations" / "unit_locations.npy"
        return float(load_npy(path)[row, 1]) if path.exists() else super().depth_um(row)


class NwbUnitsSource(SpikeSource):
    """The table ``/units`` of an NWB 2.x file."""

    kind = "nwb"

    @cached_property
    def unit_ids(self) -> np.ndarray:
        """Column ``id``."""
        with open_hdf5(self.path) as file:
            return dataset(file, "units/id", 1)[()]

    @cached_property
    def sampling_rate_hz(self) -> float:
        """Samples per second as ``spike_times`` or ``waveform_mean`` says; else 1, as times are seconds already."""
        with open_hdf5(self.path) as file:
            table = file["units"]
            resolution = dataset(table, "spike_times", 1).attrs.get("resolution", -1)
            rate = table["waveform_mean"].attrs.get("sampling_rate", 0) if "waveform_mean" in table else 0
            return float(rate or (1 / resolution if resolution > 0 else 1))

    def _spikes(self, row):
        with open_hdf5(self.path) as file:
            ends = dataset(file, "units/spike_times_index", 1)
            start = int(ends[row - 1]) if row else 0
            return np.sort(dataset(file, "units/spike_times", 1)[start : int(ends[row])].astype(np.float64))

    def waveform(self, row: int) -> Waveform | None:
        """Column ``waveform_mean``, (units, samples) or (units, samples, channels), in volts there."""
        with open_hdf5(self.path) as file:
            if "waveform_mean" not in file["units"]:
                return None
            data = dataset(file, "units/waveform_mean")
            samples = np.atleast_2d(data[row].T).T.astype(np.float32)
            in_volts = str(text(data.attrs.get("unit", "volts"))).lower() in ("volts", "volt", "v")
        samples = samples * np.float32(1e6) if in_volts else samples
        return Waveform(samples, _from_trough(samples, self.sampling_rate_hz), np.full((samples.shape[1], 2), np.nan))

    def depth_um(self, row: int) -> float:
        """The first column of a depth that the table has."""
        with open_hdf5(self.path) as file:
            for name in _DEPTHS:
                if name in file["units"]:
                    return float(dataset(file, f"units/{name}", 1)[row])
        return super().depth_um(row)


def _is_sorting(folder):
    return any((folder / name).is_file() for name in ("numpysorting_info.json", "sorting_cached.npz"))


def _has_units(path):
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return "spike_times" in file.get("units", ())


def find_spikes(path: str | Path, group: str = "", span: Span | None = None) -> SpikeSource | None:
    """Sorted units of one session, None where the path holds none.

    Parameters
    ----------
    path : path-like
        A folder of phy, Kilosort or SpikeInterface, or an NWB file. A folder with a subfolder of the group's name
        stands for that.
    group : str
        Tetrode or probe.
    span : (start, end), optional
        The session's samples, where several were sorted as one recording.

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if group and (path / group).is_dir():
        path = path / group
    if (path / "spike_times.npy").is_file():
        return PhySource(path, span)
    if _is_sorting(path) or _is_sorting(path / "sorting"):
        return SpikeInterfaceSource(path, span)
    return NwbUnitsSource(path, span) if _has_units(path) else None
