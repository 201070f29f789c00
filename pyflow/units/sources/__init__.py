"""Readers of ROIs and their traces, one module per format behind `Source`."""

from pathlib import Path

from pyflow.units.sources import allen, caiman, nwb, recording, suite2p
from pyflow.units.sources.base import Footprint, Source, SourceError
from pyflow.units.sources.spikes import find_spikes

__all__ = ["Footprint", "Source", "SourceError", "find_sources", "open_source"]

# A new format is one module with a function `find` and its name here.
_FORMATS = (suite2p, recording, allen, nwb, caiman)


def find_sources(path: str | Path) -> list[Source]:
    """Sources in one file or results folder.

    Parameters
    ----------
    path : path-like
        An NWB or CaImAn file, a suite2p folder, or a recording's folder of this package.

    Returns
    -------
    list of Source
        One per imaging plane; empty where it is none of these formats.

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    for module in _FORMATS:
        if sources := module.find(path):
            return sources
    return []


def open_source(path: str | Path, group: str = "") -> Source:
    """Open the ROIs and traces of one imaging plane.

    Parameters
    ----------
    path : path-like
        As for `find_sources`.
    group : str
        Plane, where there are several: suite2p's folder (``"plane1"``), NWB's PlaneSegmentation.

    Returns
    -------
    Source

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    SourceError
        None of the formats, or no such plane.
    """
    sources = find_sources(path)
    if not sources and find_spikes(path, group) is not None:
        raise SourceError(
            f"{path}: holds sorted units, which have spikes (`pyflow-units plot CELL --spikes`), no traces"
        )
    if not sources:
        raise SourceError(
            f"{path}: expected an NWB file with segmented planes, a CaImAn result, a suite2p folder, or a folder with "
            f"{recording.ROI_FILE} and a compensated video"
        )
    for source in sources:
        if source.group == group or (len(sources) == 1 and not (group and source.group)):
            return source
    planes = ", ".join(repr(source.group) for source in sources)
    raise SourceError(f"{path}: no plane {group!r}; it has {planes}")
