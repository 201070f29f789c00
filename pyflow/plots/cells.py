"""What figures of cells share: the sessions to draw, and the image around a cell with its outline."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ABSENT_GREY = 0.93  # of images where there is no cell
NO_DATA = (
    "no data to draw: the sessions of these cells do not say where their results are; pyflow-units set-source says it"
)

_OUTLINE = "#E69F00"
_MAX_SESSIONS = 30  # drawn as rows or columns of images; more would be too small to see


class Followed(Protocol):
    """Which cell is in which session, and its data; `pyflow.units.open_sessions` makes one.

    Attributes
    ----------
    names : list of str
        The sessions.
    presence : pandas.DataFrame of bool
        A row per unit, a column per session.
    """

    names: list[str]
    presence: Any

    def find(self, cell: int | str) -> dict[str, Any]:
        """Return by session the data set that holds the cell, None without one, and whether the cell is present."""


def of_sessions(places: dict[str, Any], sessions: list[str] | None = None) -> dict[str, Any]:
    """Return what belongs to the sessions that are drawn; None: to all of them.

    Raises
    ------
    ValueError
        There is no such session, or there are more than can be drawn.
    """
    unknown = [name for name in sessions or () if name not in places]
    if unknown:
        raise ValueError(f"no session {unknown[0]!r}; there are {', '.join(map(repr, places))}")
    chosen = {name: places[name] for name in (places if sessions is None else sessions)}
    if len(chosen) > _MAX_SESSIONS:
        raise ValueError(
            f"{len(chosen)} sessions, expected at most {_MAX_SESSIONS}: choose some with sessions= (--session)"
        )
    return chosen


def centre_of(mask: np.ndarray) -> np.ndarray:
    """Return the mean position (row, column) of a mask's pixels."""
    return np.mean(np.nonzero(mask), axis=1)


def tile_around(image: np.ndarray, centre: np.ndarray, half: int | None) -> np.ndarray:
    """Return the pixels up to `half` around a centre, NaN outside the image; all pixels where `half` is None."""
    if half is None:
        return image.astype(np.float32)
    padded = np.pad(image.astype(np.float32), half, constant_values=np.nan)
    row, column = np.round(centre).astype(int)
    return padded[row : row + 2 * half + 1, column : column + 2 * half + 1]


def draw_outline(axes: "Axes", mask: np.ndarray, corner: Any = (0, 0)) -> None:
    """Draw the edges between a mask's pixels and those outside, shifted to a corner (row, column)."""
    from matplotlib.collections import LineCollection

    padded = np.pad(mask.astype(np.int8), 1)
    y, x = np.nonzero(np.diff(padded, axis=0)[:, 1:-1])
    across = np.stack([np.stack([x, y], -1), np.stack([x + 1, y], -1)], 1)
    y, x = np.nonzero(np.diff(padded, axis=1)[1:-1])
    down = np.stack([np.stack([x, y], -1), np.stack([x, y + 1], -1)], 1)
    segments = np.concatenate([across, down]) + np.asarray(corner)[::-1] - 0.5
    axes.add_collection(LineCollection(segments, colors=_OUTLINE, linewidths=1.0, capstyle="projecting"))
