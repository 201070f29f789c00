"""What the files of Bruker's PrairieView are, one per frame or per cycle: by their names, and the XML beside them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pyflow.io.readers.axes import check_plane
from pyflow.io.readers.page_order import warn_of

FILE_NAME = re.compile(
    r"(?P<name>.+)_Cycle(?P<cycle>\d+)_Ch(?P<channel>\d+)_(?P<number>\d+)\.ome\.tiff?", re.IGNORECASE
)

# Of the types that PrairieView gives to a cycle, those with one of these in it are of one volume.
_VOLUMES = ("ZSeries", "AtlasVolume")

_Page = tuple[int, int, int, int]  # cycle, channel, number of the file, page in it from 1


def files_by_channel(sources: Iterable[Any]) -> dict[str, list[Path]]:
    """Files of Bruker by their channels, each in order; empty where one is of something else."""
    found: dict[str, list[tuple[int, int, Path]]] = {}
    for source in sources:
        match = FILE_NAME.fullmatch(Path(source).name) if isinstance(source, str | Path) else None
        if match is None:
            return {}
        found.setdefault(match["channel"], []).append((int(match["cycle"]), int(match["number"]), Path(source)))
    return {channel: [path for *_, path in sorted(files)] for channel, files in sorted(found.items())}


def recording_of(file: Path) -> Path:
    """Return the path that the files of a recording begin with."""
    return file.with_name(FILE_NAME.fullmatch(file.name)["name"])


def planes_in_xml(file: Path) -> dict[_Page, int]:
    """Read which plane an image is of, in the XML beside a file of the recording.

    Parameters
    ----------
    file
        One of the recording's.

    Returns
    -------
    dict
        Cycle, channel, number of the file and page in it, from 1 -> plane, counted from 0. Empty where there is no XML,
        or no cycle is a volume.

    Raises
    ------
    ValueError
        The XML is damaged.
    """
    path = _xml_of(file)
    # A long recording has a hundred megabytes of XML, and most have no planes.
    if not path.is_file() or not any(kind.encode() in path.read_bytes() for kind in _VOLUMES):
        return {}
    found: dict[_Page, int] = {}
    try:
        with open(path, "rb") as stream:
            for _, sequence in ElementTree.iterparse(stream):
                if sequence.tag == "Sequence":
                    found |= _planes_in_cycle(sequence)
                    sequence.clear()
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(
            f"{path}: damaged, so that nothing says which plane an image is of: {error}; say n_planes=1 where every "
            "image is a frame, or, with the file away, n_planes and plane"
        ) from error
    return found


def _planes_in_cycle(sequence: ElementTree.Element) -> dict[_Page, int]:
    if not any(kind in sequence.get("type", "") for kind in _VOLUMES):
        return {}
    frames = sorted(sequence.iter("Frame"), key=lambda frame: int(frame.get("index", 0)))
    # Of volumes that are scanned down and up again, every second comes upwards.
    if sequence.get("bidirectionalZ") == "True" and int(sequence.get("cycle", 1)) % 2 == 0:
        frames.reverse()
    found = {}
    for plane, frame in enumerate(frames):
        for file in frame.iter("File"):
            # The path may be one of Windows.
            if match := FILE_NAME.fullmatch(re.split(r"[\\/]", file.get("filename", ""))[-1]):
                found[(*_numbers(match), int(file.get("page", 1)))] = plane
    return found


def frames_of_plane(
    files: Sequence[Path], n_pages: Sequence[int], said: Mapping[_Page, int], n_planes: int | None, plane: int | None
) -> tuple[np.ndarray, int]:
    """Find the frames of one plane among those of all planes.

    Parameters
    ----------
    files, n_pages
        Of one channel in the order of time, and how many images each of them holds.
    said
        From `planes_in_xml`; empty: volumes of `n_planes` follow each other.
    n_planes, plane
        As the user says.

    Returns
    -------
    ndarray, int
        Numbers of the images, counted over all files; number of planes.

    Raises
    ------
    ValueError
        There are several planes and none was chosen, volumes have gaps, or the XML says otherwise, or nothing of an
        image.
    """
    name = str(files[0].parent)
    if said:
        pages = [
            (*_numbers(FILE_NAME.fullmatch(file.name)), page)
            for file, count in zip(files, n_pages, strict=True)
            for page in range(1, count + 1)
        ]
        unknown = [page for page in pages if page not in said]
        if unknown:
            cycle, channel, number, page = unknown[0]
            raise ValueError(
                f"{_xml_of(files[0])}: some cycles are volumes, but nothing is said of page {page} of cycle {cycle}, "
                f"channel {channel}, file {number}; open the files of one kind of cycle, or say n_planes=1 where every "
                "image is a frame"
            )
        planes, volumes = np.array([said[page] for page in pages]), np.array([cycle for cycle, *_ in pages])
        if n_planes not in (None, planes.max() + 1):
            raise ValueError(f"{_xml_of(files[0])}: n_planes is {n_planes}, but a volume has {planes.max() + 1} planes")
        n_planes = int(planes.max()) + 1
    else:
        volumes, planes = np.divmod(np.arange(sum(n_pages)), n_planes)
    keep = _whole_volumes(volumes, n_planes, name)
    return np.flatnonzero(keep & (planes == (check_plane(plane, n_planes, name) or 0))), n_planes


def ask_about_cycles(files: Sequence[Path], n_pages: Sequence[int]) -> None:
    """Refuse cycles that may be volumes, where no XML says whether they are.

    Raises
    ------
    ValueError
        All of them, the last perhaps aborted, have one number of images; the message names the option that decides.
    """
    xml = _xml_of(files[0])
    if xml.is_file():
        return
    cycles = np.repeat([_numbers(FILE_NAME.fullmatch(file.name))[0] for file in files], n_pages)
    counts = np.unique(cycles, return_counts=True)[1]
    if len(counts) > 1 and counts[0] > 1 and (counts[:-1] == counts[0]).all() and counts[-1] <= counts[0]:
        raise ValueError(
            f"{xml.parent}: {len(counts)} cycles of {counts[0]} images, and no {xml.name} beside them, which would say "
            f"whether a cycle is a volume; if it is, say n_planes={counts[0]} and plane=0 to plane={counts[0] - 1}; if "
            "every image is a frame, n_planes=1"
        )


def _whole_volumes(volumes: np.ndarray, n_planes: int, name: str) -> np.ndarray:
    """Which images are of whole volumes; only the last volume may be in part."""
    numbers, counts = np.unique(volumes, return_counts=True)
    short = numbers[counts != n_planes]
    if len(short) == 1 and short[0] == numbers[-1] and len(numbers) > 1:
        warn_of(name, f"the last volume has {counts[-1]} of {n_planes} planes and is left out")
    elif len(short):
        found = counts[counts != n_planes][0]
        raise ValueError(f"{name}: volume {short[0]} has {found} images, expected one of each of {n_planes} planes")
    return ~np.isin(volumes, short)


def _xml_of(file: Path) -> Path:
    return file.with_name(f"{recording_of(file).name}.xml")


def _numbers(match: re.Match) -> tuple[int, int, int]:
    return int(match["cycle"]), int(match["channel"]), int(match["number"])
