"""Videos in Zarr, version 2 and 3, and OME-Zarr; needs the package zarr."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pyflow.io.readers.axes import axes_by_name
from pyflow.io.readers.page_order import warn_of
from pyflow.io.readers.stack import StackReader, list_found


class ZarrReader(StackReader):
    """Reads Zarr.

    Parameters
    ----------
    path : Path
        Folder.
    dataset : str or sequence of str, optional
        Arrays to read, one per channel, or one with all. By default that of the finest scale (OME-Zarr), or the only
        numeric array of 3 to 5 axes.
    axes : str, optional
        By default as OME or names of dimensions say, and else the rule of `pyflow.io.readers.axes.axes_by_rule`.
    plane : int, optional
        Of several planes the one to read, counted from 0.

    Raises
    ------
    ImportError
        The package zarr is missing.
    ValueError
        Not such a store, or no array in it is the video.
    """

    def __init__(
        self,
        path: Path,
        dataset: str | tuple[str, ...] | list[str] | None = None,
        *,
        axes: str | None = None,
        plane: int | None = None,
    ) -> None:
        try:
            zarr = import_module("zarr")
        except ImportError as error:
            raise ImportError(f"{path}: reading Zarr needs the package zarr: pip install pyflow-2p[zarr]") from error
        try:
            node = zarr.open(str(path), mode="r")
            arrays, attributes = _arrays(node), dict(node.attrs)
        except (ValueError, OSError, KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"{path}: not a readable Zarr store: {error}") from error
        names, said = _choose(Path(path), arrays, attributes, dataset)
        self._arrays = {name or "array": arrays[name] for name in names}
        first = next(iter(self._arrays.values()))
        self._lay_out(
            Path(path),
            {name: tuple(array.shape) for name, array in self._arrays.items()},
            {name: np.dtype(array.dtype) for name, array in self._arrays.items()},
            axes,
            said or _named(first),
            plane,
        )
        self._check_written()
        self._check_guess()
        self.origin["format"] = f"Zarr {getattr(node.metadata, 'zarr_format', '')}".strip()

    def _check_written(self) -> None:
        """Tell of chunks that are not there: all alike, which Zarr leaves out, or of a recording that was aborted."""
        for name, array in self._arrays.items():
            n_there = array.nchunks_initialized
            if n_there == 0:
                raise ValueError(f"{self.path}: {name} has shape {array.shape}, but nothing was ever written to it")
            if n_there < array.nchunks:
                warn_of(
                    str(self.path),
                    f"{array.nchunks - n_there} of {array.nchunks} chunks of {name} are not in the store; their pixels "
                    f"are read as {array.fill_value}. Either all of these have that value, or the recording was "
                    "aborted or lost a part",
                )

    def _take(self, name: str, key: tuple[Any, ...]) -> np.ndarray:
        array = self._arrays[name]
        try:
            # Lists of frames are read in the pieces that follow each other, which all versions of the package can.
            lists = [place for place, one in enumerate(key) if isinstance(one, np.ndarray)]
            if not lists:
                return np.asarray(array[key])
            (place,) = lists
            pieces = np.split(key[place], np.flatnonzero(np.diff(key[place]) != 1) + 1)
            found = [
                np.asarray(array[(*key[:place], slice(int(piece[0]), int(piece[-1]) + 1), *key[place + 1 :])])
                for piece in pieces
            ]
            return np.concatenate(found, axis=place - sum(isinstance(one, int) for one in key[:place]))
        except (ValueError, OSError, RuntimeError, KeyError) as error:
            raise ValueError(f"{self.path}: {name} cannot be read: {error}") from error


def _arrays(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return the arrays below a node, by their names."""
    if hasattr(node, "shape"):
        return {prefix: node}
    found: dict[str, Any] = {}
    for name in sorted(node):
        found |= _arrays(node[name], f"{prefix}/{name}".strip("/"))
    return found


def _choose(
    path: Path, arrays: dict[str, Any], attributes: dict[str, Any], names: Any
) -> tuple[list[str], tuple[str, str] | None]:
    """Return the arrays with the video, and axes where the store says them."""
    scales = (attributes.get("ome") or attributes).get("multiscales")
    if names is None and scales:
        finest = scales[0]["datasets"][0]["path"]
        called = [axis["name"] if isinstance(axis, dict) else axis for axis in scales[0].get("axes", ())]
        axes = axes_by_name(called or "tczyx")
        if finest not in arrays:
            raise ValueError(f"{path}: damaged: its header names the array {finest!r}, which is missing")
        return [finest], (axes, "OME-Zarr axes") if axes else None
    videos = {
        name: array for name, array in arrays.items() if len(array.shape) in (3, 4, 5) and array.dtype.kind in "buif"
    }
    listed = list_found(
        {name: array.shape for name, array in videos.items()}, {name: array.shape for name, array in arrays.items()}
    )
    if names is not None:
        wanted = [names] if isinstance(names, str) else list(names)
        if missing := [name for name in wanted if name.strip("/") not in videos]:
            raise ValueError(f"{path}: no array {missing[0]!r} of 3 to 5 axes; found: {listed}")
        return [name.strip("/") for name in wanted], None
    channels = {name: int(name[2:]) for name in videos if name[:2].lower() == "ch" and name[2:].isdigit()}
    if channels:
        return sorted(channels, key=channels.__getitem__), None
    if len(videos) != 1:
        problem = "which array is the video? name one with dataset=" if videos else "no array of 3 to 5 axes"
        raise ValueError(f"{path}: {problem}; found: {listed}")
    return list(videos), None


def _named(array: Any) -> tuple[str, str] | None:
    """Return axes by the names of an array's dimensions, where it has any."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    axes = axes_by_name(names) if names and len(names) == len(array.shape) else None
    return (axes, "names of dimensions") if axes else None
