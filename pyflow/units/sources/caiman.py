"""CaImAn's results: the HDF5 file that ``CNMF.save`` writes."""

from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyflow.units.sources.base import Footprint, Source, SourceError, dataset, open_hdf5, take, text

# Footprints have long weak tails; a mask ends where the weight falls below this share of the ROI's largest, as in
# CaImAn's own contour plots.
MASK_LEVEL = 0.2

_FIELDS = {"denoised": "C", "spikes": "S", "dff": "F_dff"}


def find(path: Path) -> list[Source]:
    """Sources in a file: one, or none where it is another format."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return []
    with h5py.File(path, "r") as file:
        return [CaimanSource(path)] if "estimates/A/indptr" in file else []


class CaimanSource(Source):
    """Components of one CaImAn run; all that the file holds."""

    kind = "caiman"

    @cached_property
    def shape(self) -> tuple[int, int]:
        """``dims``."""
        with open_hdf5(self.path) as file:
            dims = file.get("dims", file.get("estimates/dims", file.get("params/data/dims")))
            dims = np.asarray(text(dims)) if isinstance(dims, h5py.Dataset) else None
            pixels = int(dataset(file, "estimates/A/shape", 1)[0])
        if dims is None or dims.shape != (2,) or int(np.prod(dims)) != pixels:
            raise SourceError(f"{self.path}: dims is {dims}, expected height and width with {pixels} pixels, as A has")
        return int(dims[0]), int(dims[1])

    @cached_property
    def roi_ids(self) -> np.ndarray:
        """Columns of A, from 0."""
        with open_hdf5(self.path) as file:
            return np.arange(int(dataset(file, "estimates/A/shape", 1)[1]))

    def footprint(self, row: int) -> Footprint:
        """Pixels of a column of A above `MASK_LEVEL`; A counts them down the columns of the image first."""
        with open_hdf5(self.path) as file:
            matrix = file["estimates/A"]
            start, stop = dataset(matrix, "indptr", 1)[row : row + 2]
            pixels, weights = dataset(matrix, "indices", 1)[start:stop], dataset(matrix, "data", 1)[start:stop]
        keep = weights > MASK_LEVEL * weights.max(initial=0)
        y, x = np.unravel_index(pixels[keep], self.shape, order="F")
        return Footprint(y, x, weights[keep].astype(np.float32))

    def image(self) -> tuple[np.ndarray, str]:
        """The correlation image Cn; CaImAn keeps no projection. Without it, the background's mean."""
        with open_hdf5(self.path) as file:
            if isinstance(image := file.get("estimates/Cn"), h5py.Dataset) and image.ndim == 2:
                return image[()], "correlation image"
            background, course = file.get("estimates/b"), file.get("estimates/f")
            if all(isinstance(part, h5py.Dataset) and part.ndim == 2 for part in (background, course)):
                mean = background[()] @ course[()].mean(axis=1)
                return mean.reshape(self.shape, order="F"), "mean background"
        raise SourceError(f"{self.path}: no image: neither estimates/Cn nor estimates/b and f")

    @cached_property
    def _present(self):
        # What was not computed is stored as the text "NoneType".
        with open_hdf5(self.path) as file:
            names = ("C", "S", "F_dff", "YrA", "R")
            return {n for n in names if isinstance(d := file.get(f"estimates/{n}"), h5py.Dataset) and d.ndim == 2}

    @property
    def trace_kinds(self) -> tuple[str, ...]:
        """``denoised`` (C), ``spikes`` (S), ``dff`` (F_dff), ``fluorescence`` (C plus residual); those there are."""
        kinds = [kind for kind, name in _FIELDS.items() if name in self._present]
        residual = self._present & {"YrA", "R"}
        return (*kinds, *(("fluorescence",) if residual and "C" in self._present else ()))

    def _check_kind(self, kind):
        if kind == "dff" and "F_dff" not in self._present:
            raise SourceError(f"{self.path}: no F_dff; CaImAn computes it with estimates.detrend_df_f() before saving")
        super()._check_kind(kind)

    @cached_property
    def _frame_rate(self):
        with open_hdf5(self.path) as file:
            rate = file.get("params/data/fr")
            return float(text(rate)) if isinstance(rate, h5py.Dataset) else None

    @property
    def time_unit(self) -> str:
        """Seconds, where the parameters hold the frame rate."""
        return "s" if self._frame_rate else "frames"

    def _timestamps(self, kind):
        with open_hdf5(self.path) as file:
            n = dataset(file, f"estimates/{_FIELDS.get(kind, 'C')}", 2).shape[1]
        return np.arange(n) / (self._frame_rate or 1.0)

    def _traces(self, kind, rows):
        with open_hdf5(self.path) as file:
            read = lambda name: take(dataset(file, f"estimates/{name}", 2), rows)  # noqa: E731
            if kind in _FIELDS:
                return read(_FIELDS[kind])
            return read("C") + read("YrA" if "YrA" in self._present else "R")

    def metadata(self) -> dict[str, Any]:
        """Frame rate."""
        return {"frame_rate_hz": self._frame_rate}
