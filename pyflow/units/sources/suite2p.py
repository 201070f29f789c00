"""suite2p's folders: ``suite2p/plane0`` and so on, or ``combined``."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyflow.io.unpickle import load_npy
from pyflow.units.sources.base import Footprint, Source, SourceError, translations
from pyflow.units.sources.dff import SMOOTHING_FRAMES, WINDOW_S, dff

# suite2p 1.0 spreads over several files what was all in ops.npy before.
_OPTIONS = ("db.npy", "settings.npy", "reg_outputs.npy", "detect_outputs.npy", "ops.npy")
_FILES = {"fluorescence": "F.npy", "neuropil": "Fneu.npy", "spikes": "spks.npy"}
_NEUROPIL_FACTOR = 0.7  # suite2p's own, where the options do not say


def find(path: Path) -> list[Source]:
    """Sources in a folder, one per plane: the folder of a plane, ``suite2p``, or the one that holds it."""
    if not path.is_dir():
        return []
    if (path / "stat.npy").is_file():
        return [Suite2pSource(path, path.name)]
    folder = path / "suite2p" if (path / "suite2p").is_dir() else path
    planes = [place for place in folder.glob("plane*") if (place / "stat.npy").is_file()]
    planes = [place for place in planes if re.fullmatch(r"plane\d+", place.name)]
    planes.sort(key=lambda place: int(place.name[5:]))
    if not planes and (folder / "combined" / "stat.npy").is_file():
        planes = [folder / "combined"]
    return [Suite2pSource(place, place.name) for place in planes]


class Suite2pSource(Source):
    """One plane of a suite2p run; its ROIs are all that were detected, whether or not ``iscell`` accepts them.

    A mask holds all pixels of its ROI, those included that it shares with others (``overlap``), which suite2p by
    default leaves out when it extracts the traces.
    """

    kind = "suite2p"

    @cached_property
    def _stat(self):
        stat = load_npy(self.path / "stat.npy").ravel()
        for roi, entry in enumerate(stat):
            if not isinstance(entry, dict) or not {"ypix", "xpix"} <= entry.keys():
                raise SourceError(f"{self.path / 'stat.npy'}: ROI {roi} has no ypix and xpix")
        return stat

    @cached_property
    def _options(self):
        options = {}
        for name in _OPTIONS:
            if (self.path / name).is_file():
                options |= load_npy(self.path / name).item()
        if not options:
            raise SourceError(f"{self.path}: no ops.npy")
        return options

    def _option(self, name):
        if name not in self._options:
            raise SourceError(f"{self.path / 'ops.npy'}: no {name}")
        return self._options[name]

    @property
    def shape(self) -> tuple[int, int]:
        """Ly and Lx."""
        return int(self._option("Ly")), int(self._option("Lx"))

    @cached_property
    def roi_ids(self) -> np.ndarray:
        """Places in ``stat.npy``, from 0."""
        return np.arange(len(self._stat))

    def footprint(self, row: int) -> Footprint:
        """Pixels with suite2p's weights ``lam``."""
        roi = self._stat[row]
        y, x = np.asarray(roi["ypix"]), np.asarray(roi["xpix"])
        height, width = self.shape
        if y.size and not (0 <= y.min() <= y.max() < height and 0 <= x.min() <= x.max() < width):
            raise SourceError(f"{self.path / 'stat.npy'}: ROI {row} leaves the image of {height} x {width} pixels")
        return Footprint(y, x, np.asarray(roi.get("lam", np.ones(len(y))), np.float32))

    def image(self) -> tuple[np.ndarray, str]:
        """``max_proj``, which suite2p crops to the pixels that are always in view, else ``meanImg``."""
        image = np.zeros(self.shape, np.float32)
        if "max_proj" in self._options:
            projection = np.asarray(self._options["max_proj"])
            rows, columns = (slice(*map(int, self._option(name))) for name in ("yrange", "xrange"))
            if projection.shape == self.shape:
                rows = columns = slice(None)
            elif projection.shape != image[rows, columns].shape:
                raise SourceError(
                    f"{self.path / 'ops.npy'}: max_proj has shape {projection.shape}, expected "
                    f"{image[rows, columns].shape} (yrange, xrange) or {self.shape} (Ly, Lx)"
                )
            image[rows, columns] = projection
            return image, "maximum projection"
        image[:] = self._option("meanImg")
        return image, "mean image"

    @cached_property
    def trace_kinds(self) -> tuple[str, ...]:
        """``fluorescence``, ``neuropil``, ``spikes``, and computed ones: ``corrected`` and ``dff``; those there are.

        ``corrected`` is fluorescence minus `neucoeff` (0.7) times neuropil; ``dff`` is its change against a running
        baseline (`pyflow.units.sources.dff`), with the window and smoothing of the options.
        """
        kinds = [kind for kind, name in _FILES.items() if (self.path / name).is_file()]
        return (*kinds, *(("corrected", "dff") if {"fluorescence", "neuropil"} <= set(kinds) else ()))

    def _data(self, kind):
        data = load_npy(self.path / _FILES[kind], mmap=True)
        if data.ndim != 2 or len(data) != len(self._stat):
            raise SourceError(
                f"{self.path / _FILES[kind]}: shape {data.shape}, expected ({len(self._stat)}, T): stat.npy has "
                f"{len(self._stat)} ROIs"
            )
        return data

    def _setting(self, default, *names):
        """An option by its old or new name; suite2p 1.0 keeps it in a group of settings."""
        groups = [self._options, *(group for group in self._options.values() if isinstance(group, dict))]
        return float(next((group[name] for group in groups for name in names if name in group), default))

    def _timestamps(self, kind):
        n = self._data(kind if kind in _FILES else "fluorescence").shape[1]
        return np.arange(n) / float(self._option("fs"))

    def _traces(self, kind, rows):
        if kind in _FILES:
            return np.array(self._data(kind)[rows])
        corrected = np.array(self._data("fluorescence")[rows], np.float32)
        neuropil = self._data("neuropil")
        factor = np.float32(self._setting(_NEUROPIL_FACTOR, "neucoeff", "neuropil_coefficient"))
        for trace, row in zip(corrected, rows, strict=True):
            trace -= factor * neuropil[row]
        if kind == "corrected":
            return corrected
        return dff(
            corrected,
            float(self._option("fs")),
            window_s=self._setting(WINDOW_S, "win_baseline"),
            smoothing=self._setting(SMOOTHING_FRAMES, "sig_baseline"),
        )

    def metadata(self) -> dict[str, Any]:
        """Frame rate and where the data came from."""
        return {"frame_rate_hz": float(self._option("fs")), "data_path": self._options.get("data_path")}

    def motion_correction(self) -> pd.DataFrame:
        """Rigid offsets ``xoff`` and ``yoff``."""
        times = np.arange(len(self._option("xoff"))) / float(self._option("fs"))
        return translations(np.asarray(self._option("xoff")), np.asarray(self._option("yoff")), times)
