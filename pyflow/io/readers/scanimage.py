"""What ScanImage says about the pages of a TIFF file: versions 3, 4, 5 and those named by years, 2015 and later."""

import json
import math
import re
from dataclasses import dataclass

import numpy as np

from pyflow.io.readers.page_order import PageOrder, warn_of

_PREFIX = re.compile(r"^(scanimage\.)?(SI\d*|state)\.")
_SEVERAL_REGIONS = re.compile(r"^SI\.hRoiManager\.mroiEnable\s*=\s*(1|true)\s*$", re.MULTILINE | re.IGNORECASE)
_SAVED = re.compile(r"^[\w.]*\b(channels?Save|numberOfChannelsSave)\s*=", re.MULTILINE)


@dataclass(frozen=True)
class ScanImageHeader:
    """What matters of a header.

    Parameters
    ----------
    version
        In words.
    n_channels
        Channels that were saved, whose pages alternate.
    n_planes
        Slices of a volume.
    per_volume
        Frames of a volume, with those of the flyback; 0 where planes were recorded one after the other.
    per_slice
        Frames saved of each slice before the next; None where it went on until somebody stopped it.
    n_volumes
        Volumes that were planned; None where it is not said.
    averaged
        Frames that were averaged into one when they were saved.
    rate_hz
        Frames per second that were scanned; None where it is not said.
    """

    version: str
    n_channels: int
    n_planes: int
    per_volume: int
    per_slice: int | None
    n_volumes: int | None
    averaged: int
    rate_hz: float | None


def read_header(description: str, software: str) -> ScanImageHeader | None:
    """Read a header; None where a file is not of ScanImage.

    Parameters
    ----------
    description, software
        Texts of a TIFF file's first page under the tags ImageDescription and Software.
    """
    for text in (software, description):
        text = text.replace("\r", "\n")
        if _SAVED.search(text):
            lines = (line.partition("=") for line in text.split("\n"))
            values = {_PREFIX.sub("", key.strip()): value.strip() for key, _, value in lines}
            if any(key.startswith("acq.") for key in values):
                return _version_3(values)
            return _version_2015(values) if "hChannels.channelSave" in values else _version_4(values)
    return None


def _version_3(values: dict[str, str]) -> ScanImageHeader:
    frames = _number(values.get("acq.numberOfFrames"))
    averaged = frames if _true(values.get("acq.averaging")) else _number(values.get("acq.numAvgFramesSave"))
    n_planes = _number(values.get("acq.numberOfZSlices")) or 1
    return ScanImageHeader(
        version="ScanImage 3",
        n_channels=_number(values.get("acq.numberOfChannelsSave")) or 1,
        n_planes=n_planes,
        per_volume=0 if n_planes > 1 else 1,
        per_slice=None if frames is None else frames // (averaged or 1),
        n_volumes=None,
        averaged=averaged or 1,
        rate_hz=_float(values.get("acq.frameRate")),
    )


def _version_4(values: dict[str, str]) -> ScanImageHeader:
    fast, n_planes = _true(values.get("fastZEnable")), _number(values.get("stackNumSlices")) or 1
    flyback = _number(values.get("fastZNumDiscardFrames")) if _true(values.get("fastZDiscardFlybackFrames")) else 0
    averaged = _number(values.get("acqNumAveragedFrames")) or 1
    frames = _number(values.get("acqNumFrames"))
    period = _float(values.get("scanFramePeriod"))
    return ScanImageHeader(
        version="ScanImage 4 or 5",
        n_channels=_length(values.get("channelsSave", values.get("channelSave", "1"))),
        n_planes=n_planes,
        per_volume=(n_planes + (flyback or 0) if fast else 1) if fast or n_planes == 1 else 0,
        per_slice=None if frames is None or fast else frames // averaged,
        n_volumes=_number(values.get("fastZNumVolumes")) if fast else None,
        averaged=averaged,
        rate_hz=_float(values.get("scanFrameRate")) or (1 / period if period else None),
    )


def _version_2015(values: dict[str, str]) -> ScanImageHeader:
    def stack(*names: str) -> int | None:
        return next((found for name in names if (found := _number(values.get(f"hStackManager.{name}")))), None)

    year = values.get("VERSION_MAJOR", "").strip("'")
    on = values.get("hStackManager.enable")
    mode = values.get("hStackManager.stackMode", "").strip("'")
    fast = _true(values.get("hFastZ.enable")) if not mode or on is None else _true(on) and mode == "fast"
    n_planes = stack("actualNumSlices", "numSlices", "slicesPerAcq") or 1
    if on is not None and not _true(on) and not fast:
        n_planes = 1
    flyback = 0
    if fast and _true(values.get("hFastZ.discardFlybackFrames")):
        flyback = _number(values.get("hFastZ.numDiscardFlybackFrames")) or 0
    volume = stack("numFramesPerVolumeWithFlyback") or _number(values.get("hFastZ.numFramesPerVolume"))
    volume = max(volume or 0, n_planes + flyback) if fast else 1
    frames, averaged = stack("framesPerSlice"), _number(values.get("hScan2D.logAverageFactor")) or 1
    volumes = stack("actualNumVolumes", "numVolumes") or (_number(values.get("hFastZ.numVolumes")) if fast else None)
    per_slice = None if fast or frames is None else max(frames // averaged, 1)
    return ScanImageHeader(
        version=f"ScanImage {year}".strip(),
        n_channels=_length(values["hChannels.channelSave"]),
        n_planes=n_planes,
        per_volume=volume if fast or n_planes == 1 else n_planes if per_slice in (None, 1) else 0,
        per_slice=per_slice,
        n_volumes=volumes,
        averaged=averaged,
        rate_hz=_float(values.get("hRoiManager.scanFrameRate")),
    )


def refuse_regions(name: str, header: str, artist: str) -> None:
    """Refuse pages that hold several regions of interest, which the scanner visits one after the other.

    Parameters
    ----------
    name
        Of the file, for messages.
    header
        The text that the settings are in, with or without the regions behind them.
    artist
        The text under the tag Artist, where ScanImage writes the regions since 2016.

    Raises
    ------
    ValueError
        They do, or nothing says how many.
    """
    if not _SEVERAL_REGIONS.search(header):
        return
    text = artist if artist.lstrip().startswith("{") else header[max(header.find("\n{"), 0) :]
    try:
        found = json.loads(text.strip("\0 \n"))["RoiGroups"]["imagingRoiGroup"]["rois"]
        found = found if isinstance(found, list) else [found]
        count = sum(bool(region.get("enable", True)) for region in found)
    except (ValueError, LookupError, TypeError, AttributeError):
        count = None
    if count in (0, 1):
        return
    raise ValueError(
        f"{name}: its pages hold {'several' if count is None else count} regions of interest (mROI) of ScanImage one "
        "below the other, which move apart from each other; write the rows of each into a file of its own, or say "
        'axes="THW" to take a page for one image'
    )


def order_of(header: ScanImageHeader, n_pages: int, n_channels: int | None, name: str) -> PageOrder:
    """Return the order of a file's pages; only whole frames and volumes are in it.

    Parameters
    ----------
    header
        The file's.
    n_pages
        Pages in the file.
    n_channels
        As the user says, where the header is that of another file; None: as the header does.
    name
        Of the file, for messages.

    Raises
    ------
    ValueError
        There is no whole frame or volume; both numbers are named.
    """
    channels = header.n_channels if n_channels is None else n_channels
    if channels != header.n_channels:
        warn_of(name, f"n_channels is {channels}, though the header says {header.n_channels}")
    origin = f"header of {header.version}"
    unit = channels * (header.per_volume or 1)
    if n_pages < unit:
        raise ValueError(f"{name}: the {origin} says {unit} pages per frame or volume, the file has {n_pages}")
    if header.per_volume:
        table = np.arange(n_pages // unit * unit).reshape(-1, header.per_volume, channels)
        planes = list(table[:, : header.n_planes].transpose(1, 0, 2))
        left = n_pages % unit
        announced = header.n_volumes if header.n_planes > 1 else header.per_slice
        rate = header.rate_hz and header.rate_hz / header.averaged / header.per_volume
    else:
        table = np.arange(n_pages // channels * channels).reshape(-1, channels)
        slice_of = np.arange(len(table)) // header.per_slice % header.n_planes
        planes = [table[slice_of == plane] for plane in range(header.n_planes)]
        left, announced = n_pages % channels, header.per_slice * (header.n_volumes or 1)
        rate = header.rate_hz and header.rate_hz / header.averaged
    whole = "volumes" if header.per_volume > 1 else "frames"
    found = len(planes[0])
    if left:
        warn_of(
            name,
            f"the {origin} says {unit} pages per {whole[:-1]}, the file has {n_pages}: {found} whole {whole} are read "
            f"and the last {left} pages left out",
        )
    if announced and announced > found:
        warn_of(
            name,
            f"the {origin} says {announced} {whole}, the file has {found}: the recording was aborted, or goes on in "
            "another file",
        )
    elif announced and announced < found and not left:
        warn_of(name, f"the {origin} says {announced} {whole}, the file has {found}, and all of them are read")
    facts = {"frames": "pages in the file", "channels": origin, "planes": origin, "axes": origin}
    if rate:
        facts["frame rate"] = origin
    return PageOrder(planes, facts, rate or None)


def _length(value: str) -> int:
    """Number of entries of a MATLAB vector such as ``[1;2]``."""
    return max(1, len(re.findall(r"\d+", value)))


def _float(value: str | None) -> float | None:
    try:
        found = float((value or "").strip("'[]"))
    except ValueError:
        return None
    return found if math.isfinite(found) and found > 0 else None


def _number(value: str | None) -> int | None:
    """A positive whole number; None for ``Inf``, ``[]`` and the like."""
    found = _float(value)
    return None if found is None else int(found)


def _true(value: str | None) -> bool:
    return (value or "").strip().lower() in ("1", "true")
