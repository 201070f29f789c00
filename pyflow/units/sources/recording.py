"""The package's own recording folders: ``compensated.hdf5`` and, drawn on its average, ``rois.npz``."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.io import open_video
from pyflow.layout import AVERAGE_FILE, MASK_FILE, ROI_FILE, find_video, open_compensated
from pyflow.units.sources.base import Footprint, Source, SourceError
from pyflow.units.sources.dff import dff

_BATCH = 64  # frames


def find(path: Path) -> list[Source]:
    """Sources in a folder: one, or none where it is another kind of folder."""
    return [RecordingSource(path)] if (path / ROI_FILE).is_file() and find_video(path) else []


class RecordingSource(Source):
    """A compensated recording with ROIs.

    ``rois.npz`` holds either `labels`, (H, W) integers: each pixel's ROI, 0 outside, as Cellpose gives them, or
    `masks`, (N, H, W): weights of each ROI's pixels. With `frame_rate_hz` times are seconds and dF/F can be computed.

    Traces are the weighted means over the ROIs' pixels in the first channel, leaving out pixels that ``idx.hdf`` marks
    as not in view (NaN where none is). Each call reads the whole video, some frames at a time.
    """

    kind = "pyflow"

    @cached_property
    def _rois(self):
        path = self.path / ROI_FILE
        with np.load(path, allow_pickle=False) as file:
            found = dict(file)
        if len({"labels", "masks"} & found.keys()) != 1:
            raise SourceError(f"{path}: expected either labels or masks, found {', '.join(found) or 'nothing'}")
        for name, ndim in (("labels", 2), ("masks", 3)):
            if name in found and found[name].ndim != ndim:
                raise SourceError(f"{path}: {name} has shape {found[name].shape}, expected {ndim} dimensions")
        return found

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the ROIs' masks."""
        return (self._rois["labels"] if "labels" in self._rois else self._rois["masks"][0]).shape

    @cached_property
    def roi_ids(self) -> np.ndarray:
        """The labels in ascending order, or places in `masks` from 0."""
        if "labels" in self._rois:
            labels = np.unique(self._rois["labels"])
            return labels[labels != 0]
        return np.arange(len(self._rois["masks"]))

    def footprint(self, row: int) -> Footprint:
        """Pixels of a label or mask."""
        if "labels" in self._rois:
            y, x = np.nonzero(self._rois["labels"] == self.roi_ids[row])
            return Footprint(y, x, np.ones(len(y), np.float32))
        mask = self._rois["masks"][row]
        y, x = np.nonzero(mask)
        return Footprint(y, x, mask[y, x].astype(np.float32))

    def image(self) -> tuple[np.ndarray, str]:
        """The temporal average of the first channel."""
        path = self.path / AVERAGE_FILE
        average = np.load(path, allow_pickle=False)
        average = average[..., 0] if average.ndim == 3 else average
        if average.shape != self.shape:
            raise SourceError(f"{path}: shape {average.shape}, but {ROI_FILE} has {self.shape}")
        return average, "mean image"

    @property
    def _frame_rate(self):
        return float(self._rois["frame_rate_hz"]) if "frame_rate_hz" in self._rois else None

    @property
    def time_unit(self) -> str:
        """Seconds, where ``rois.npz`` holds the frame rate."""
        return "s" if self._frame_rate else "frames"

    @property
    def trace_kinds(self) -> tuple[str, ...]:
        """``fluorescence`` and, with a frame rate, ``dff`` against a running baseline."""
        return ("fluorescence", "dff") if self._frame_rate else ("fluorescence",)

    def _check_kind(self, kind):
        if kind == "dff" and not self._frame_rate:
            raise SourceError(f"{self.path / ROI_FILE}: no frame_rate_hz, which dF/F needs")
        super()._check_kind(kind)

    def _timestamps(self, kind):
        with open_compensated(find_video(self.path)) as video:
            return np.arange(len(video)) / (self._frame_rate or 1.0)

    def _traces(self, kind, rows):
        footprints = [self.footprint(row) for row in rows]
        valid_file = self.path / MASK_FILE
        with open_compensated(find_video(self.path)) as video:
            if video.shape[1:3] != self.shape:
                raise SourceError(f"{video.path}: frames of {video.shape[1:3]} pixels, {ROI_FILE} has {self.shape}")
            traces = np.empty((len(rows), len(video)), np.float32)
            valid = open_video(valid_file) if valid_file.is_file() else None
            try:
                for first, frames in video.batches(_BATCH):
                    stop = first + len(frames)
                    seen = np.ones(frames.shape[:3], bool) if valid is None else valid[first:stop, ..., 0] != 0
                    for trace, (y, x, weight) in zip(traces, footprints, strict=True):
                        weights = weight * seen[:, y, x]
                        total = weights.sum(axis=1)
                        total[total == 0] = np.nan
                        trace[first:stop] = (weights * frames[:, y, x, 0]).sum(axis=1) / total
            finally:
                if valid is not None:
                    valid.close()
        return dff(traces, self._frame_rate) if kind == "dff" else traces

    def metadata(self) -> dict[str, Any]:
        """Frame rate."""
        return {"frame_rate_hz": self._frame_rate}
