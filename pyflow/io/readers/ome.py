"""What the XML of OME says about the pages of one or several TIFF files."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pyflow.io.readers.page_order import PageOrder

logger = logging.getLogger(__name__)

_SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "min": 60.0}


@dataclass(frozen=True)
class OmeImages:
    """The images of an OME set.

    Parameters
    ----------
    files
        That hold them, the one that was opened first.
    images
        int64 (n, 2): file and image in it, by the numbers that `order` has.
    order
        Which is which.
    """

    files: list[Path]
    images: np.ndarray
    order: PageOrder


def read_ome(
    path: Path, xml: str, n_images: int, n_samples: int, count_of: Callable[[Path], int], *, alone: bool
) -> OmeImages | None:
    """Sort the images of a file, and of the files that belong to it, by its OME-XML.

    Parameters
    ----------
    path
        The file.
    xml
        Its description.
    n_images
        Images in it.
    n_samples
        Channels within an image.
    count_of
        Gives the number of images in another file.
    alone
        Look at this file only, as it is one of several that the user joins.

    Returns
    -------
    OmeImages or None
        None where the XML is in another file, or says nothing.

    Raises
    ------
    ValueError
        Files are missing, or the numbers in the XML are not those of the files.
    """
    try:
        root = ElementTree.fromstring(xml.strip())
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: the OME-XML in it is damaged: {error}") from error
    pixels = [_child(image, "Pixels") for image in root if _tag(image) == "Image"]
    pixels = [one for one in pixels if one is not None]
    if not pixels:
        return None
    tables = [_Table(path, root.get("UUID", ""), one, n_samples) for one in pixels]
    if len(tables) > 1:
        sizes = [math.prod(table.sizes) for table in tables]
        if max(sizes) > 1:
            raise ValueError(
                f"{path}: {len(tables)} movies (TZC {', '.join(str(table.sizes) for table in tables[:4])}) in one "
                "OME-TIFF, expected one"
            )
    counts: dict[str, int] = {"": n_images}
    files: list[Path] = [path]
    number = {"": 0}
    entries = np.concatenate([table.entries for table in tables], axis=0)  # of frames, where there are several movies
    missing = []
    if not alone:
        for name in sorted({name for table in tables for name in table.names} - {""}):
            other = path.parent / name
            if other.is_file():
                number[name] = len(files)
                counts[name] = count_of(other)
                files.append(other)
            else:
                missing.append(name)
    if missing:
        n_files = len(files) + len(missing)
        raise ValueError(
            f"{path}: of the {n_files} files of this OME set {len(missing)} are missing: {', '.join(missing[:3])}"
            f"{' ...' if len(missing) > 3 else ''}"
        )
    names = [name for table in tables for name in table.names]
    file_of = np.array([number.get(name, -1) for name in names] or [0])
    first = np.cumsum([0, *(len(table.names) for table in tables)])
    shift = np.repeat(first[:-1], [len(table.entries) for table in tables]).reshape(-1, 1, 1)
    given = entries[..., 1] >= 0
    source = np.where(given, file_of[np.where(given, entries[..., 0] + shift, 0)], -1)
    page = entries[..., 1]
    if alone:
        own = source == 0
        if not own.any():
            return None
        keep = [np.flatnonzero(own.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        source, page = source[np.ix_(*keep)], page[np.ix_(*keep)]
    total, listed = source.size, int((source >= 0).sum())
    if listed < total:
        raise ValueError(
            f"{path}: its OME header says {total} images (T, Z, C = {source.shape}), but not where {total - listed} are"
        )
    for name, place in number.items():
        highest = int(page[source == place].max(initial=-1)) + 1
        if highest > counts[name]:
            raise ValueError(
                f"{path.parent / name if name else path}: truncated: the header says {highest} pages, the file has "
                f"{counts[name]}"
            )
    if len(files) == 1 and not alone and total < n_images:
        raise ValueError(
            f'{path}: the OME header says {total} pages, the file has {n_images}; if it is wrong, say axes="THW"'
        )
    origin = {"axes": "OME header", "channels": "OME header", "planes": "OME header", "frames": "OME header and pages"}
    rate = _rate(pixels[0]) if len(tables) == 1 else None
    if rate:
        origin["frame rate"] = "OME header"
    order = PageOrder.regular("TZC", source.shape, origin, rate)
    return OmeImages(files, np.stack([source.ravel(), page.ravel()], axis=1), order)


class _Table:
    """Which file and page the header gives each (T, Z, C)."""

    def __init__(self, path: Path, own_uuid: str, pixels: ElementTree.Element, n_samples: int) -> None:
        channels = int(pixels.get("SizeC", 1))
        if channels % n_samples:
            raise ValueError(f"{path}: the OME header says {channels} channels, the pages have {n_samples} each")
        size = {"T": int(pixels.get("SizeT", 1)), "Z": int(pixels.get("SizeZ", 1)), "C": channels // n_samples}
        self.sizes = tuple(size[axis] for axis in "TZC")
        order = pixels.get("DimensionOrder", "XYCZT")[2:]  # fastest first
        slowest_first = order[::-1]
        self.names: list[str] = [""]
        table = np.full((*(size[axis] for axis in slowest_first), 2), -1, np.int64)
        flat = table.reshape(-1, 2)
        data = [child for child in pixels if _tag(child) == "TiffData"]
        known = {"": 0}
        for one in data:
            name = _file_name(path, own_uuid, one)
            if name not in known:
                known[name] = len(self.names)
                self.names.append(name)
            first = np.ravel_multi_index(
                [min(int(one.get(f"First{axis}", 0)), size[axis] - 1) for axis in slowest_first],
                [size[axis] for axis in slowest_first],
            )
            page = int(one.get("IFD", 0))
            everything = len(flat) - first if "IFD" not in one.attrib else 1
            count = int(one.get("PlaneCount", everything))
            if first + count > len(flat):
                raise ValueError(
                    f"{path}: the OME header says {len(flat)} images (T, Z, C = {self.sizes}), but lists more than "
                    f"{first + count - 1}"
                )
            flat[first : first + count, 0] = known[name]
            flat[first : first + count, 1] = np.arange(page, page + count)
        if not data:
            flat[:, 0], flat[:, 1] = 0, np.arange(len(flat))
        self.entries = table.transpose(*(slowest_first.index(axis) for axis in "TZC"), 3)


def _file_name(path: Path, own_uuid: str, data: ElementTree.Element) -> str:
    """Name of the file an entry is about; empty for the one that is open, also where it was renamed."""
    uuid = _child(data, "UUID")
    if uuid is None:
        return ""
    name = uuid.get("FileName", "")
    own = name in ("", path.name) or (own_uuid and (uuid.text or "").strip() == own_uuid)
    return "" if own else name


def _rate(pixels: ElementTree.Element) -> float | None:
    unit = _SECONDS.get(pixels.get("TimeIncrementUnit", "s"))
    try:
        period = float(pixels.get("TimeIncrement", "nan")) * (unit or np.nan)
    except ValueError:
        return None
    return 1 / period if period > 0 else None


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element | None:
    return next((child for child in element if _tag(child) == name), None)
