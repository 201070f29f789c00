"""Which page of a TIFF file is which frame, plane and channel."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pyflow.io.readers.axes import MOST_DETECTORS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PageOrder:
    """The images of a file, sorted.

    Parameters
    ----------
    planes
        Per plane, int64 (T, C): number of the image that is a frame's channel. Planes may differ in T where the
        microscope finished one before the next.
    origin
        What was found where: a fact's name and a sentence.
    frame_rate_hz
        Frames of one plane per second; None where nothing is said.
    """

    planes: list[np.ndarray]
    origin: Mapping[str, str] = field(default_factory=dict)
    frame_rate_hz: float | None = None

    @property
    def n_channels(self) -> int:
        """Channels of a frame."""
        return self.planes[0].shape[1]

    @classmethod
    def regular(
        cls, axes: str, sizes: Sequence[int], origin: Mapping[str, str], frame_rate_hz: float | None = None
    ) -> "PageOrder":
        """Return the order of images that lie as an array of axes out of ``TZC``, slowest first."""
        table = np.arange(math.prod(sizes)).reshape(tuple(sizes))
        for missing in set("TZC") - set(axes):
            table, axes = table[..., np.newaxis], axes + missing
        table = table.transpose([axes.index(letter) for letter in "ZTC"])
        return cls(list(table), origin, frame_rate_hz)

    def divided(self, n_channels: int | None, n_planes: int | None, name: str) -> "PageOrder":
        """Return the order in which frames without channels or planes of their own interleave those that the user says.

        Raises
        ------
        ValueError
            The file says another number, or the pages do not divide.
        """
        order = self
        for option, wanted, found in (
            ("n_channels", n_channels, self.n_channels),
            ("n_planes", n_planes, len(self.planes)),
        ):
            if wanted is not None and (wanted < 1 or found not in (1, wanted)):
                raise ValueError(f"{name}: {option} is {wanted}, the file says {found} ({self.described})")
        if n_channels is not None and self.n_channels == 1 and n_channels > 1:
            pages = sum(len(plane) for plane in self.planes)
            if any(len(plane) % n_channels for plane in self.planes):
                raise ValueError(f"{name}: {pages} pages do not divide into {n_channels} channels")
            planes = [plane.reshape(-1, n_channels) for plane in order.planes]
            order = PageOrder(planes, {**order.origin, "channels": "n_channels, as given"}, order.frame_rate_hz)
        if n_planes is not None and len(self.planes) == 1 and n_planes > 1:
            (plane,) = order.planes
            if len(plane) % n_planes:
                raise ValueError(f"{name}: {len(plane)} frames do not divide into {n_planes} planes")
            planes = [plane[first::n_planes] for first in range(n_planes)]
            order = PageOrder(planes, {**order.origin, "planes": "n_planes, as given"}, order.frame_rate_hz)
        return order

    @property
    def described(self) -> str:
        """The sizes in words."""
        return f"{len(self.planes[0])} frames, {len(self.planes)} planes, {self.n_channels} channels"

    def check(self, name: str) -> None:
        """Refuse what no microscope records.

        Raises
        ------
        ValueError
            A single frame of more channels than there are detectors.
        """
        if self.n_channels > MOST_DETECTORS and len(self.planes) * len(self.planes[0]) == 1:
            raise ValueError(
                f"{name}: one frame of {self.n_channels} channels ({self.origin.get('axes', 'header')}), which "
                f'is improbable; say axes="THW" for {self.n_channels} frames'
            )


def order_by_axes(
    axes: str, n_images: int, n_channels: int | None, n_planes: int | None, known: PageOrder | None, name: str
) -> PageOrder:
    """Return the order of images that the user describes by axes.

    Parameters
    ----------
    axes
        In the letters of `pyflow.io.readers.axes.normal_axes`, such as ``"TCHW"``.
    n_images
        In the file.
    n_channels, n_planes
        As the user says; None: as `known` does.
    known
        What the file says, where it says anything.
    name
        Of the file, for messages.

    Raises
    ------
    ValueError
        Rows and columns are not last, a size is missing, or the images do not divide.
    """
    if not axes.endswith(("HW", "HWC")):
        raise ValueError(f"{name}: axes={axes!r}, but pages of a TIFF file are images (H, W), so these come last")
    outer = axes[: axes.index("H")]
    sizes = {
        "C": n_channels or (known.n_channels if known and known.n_channels > 1 else None),
        "Z": n_planes or (len(known.planes) if known and len(known.planes) > 1 else None),
    }
    for letter, option in (("C", "n_channels"), ("Z", "n_planes")):
        if letter in outer and sizes[letter] is None:
            raise ValueError(f"{name}: axes={axes!r} needs {option}, which the file does not say")
    others = math.prod(sizes[letter] for letter in outer if letter != "T")
    if n_images % others or ("T" not in outer and n_images != others):
        raise ValueError(f"{name}: {n_images} pages do not divide into axes={axes!r} with {others} pages per frame")
    origin = {"axes": f"axes={axes!r}, as given"}
    rate = known.frame_rate_hz if known else None
    return PageOrder.regular(outer, [n_images // others if a == "T" else sizes[a] for a in outer], origin, rate)


def warn_of(name: str, problem: str) -> None:
    """Tell of something odd that a recording can be read in spite of."""
    logger.warning("%s: %s", name, problem)
