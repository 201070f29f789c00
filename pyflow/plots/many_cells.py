"""Figures of many cells: a gallery of their images, and which cell is in which session."""

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pyflow.plots.cells import ABSENT_GREY, NO_DATA, Followed, centre_of, draw_outline, of_sessions, tile_around
from pyflow.plots.drawing import TRACE, counted, draw_heading, grey_limits, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TALL = 6.0  # inches; a gallery that is taller than this and than it is wide goes on in a second block
_MAX_COLUMNS = 2000  # of the presence matrix; where there are more units, a column shows the share of several


def plot_unit_gallery(
    opened: "Followed",
    units: list[int | str] | None = None,
    *,
    page: int = 1,
    per_page: int = 24,
    margin: int = 10,
    sessions: list[str] | None = None,
) -> "Figure":
    """Draw thumbnails of many units in all sessions: a row per unit, a column per session, several blocks side by side.

    Parameters
    ----------
    opened, sessions
        As of `plot_unit_across_sessions`.
    units : list, optional
        Cell specimen ids; all by default.
    page : int
        From 1; each shows `per_page` units.
    per_page : int
        Units on each page.
    margin : int
        Pixels to show around the largest unit of the page.

    Returns
    -------
    matplotlib.figure.Figure
        Grey where a unit is absent.

    Raises
    ------
    ValueError
        There is no such page, no session has images of these units, or more than 30 sessions.
    ImportError
        matplotlib is not installed.
    """
    units = list(opened.presence.index) if units is None else list(units)
    n_pages = max(1, -(-len(units) // per_page))
    if not 1 <= page <= n_pages:
        raise ValueError(f"page {page} of {n_pages}")
    shown = units[(page - 1) * per_page : page * per_page]
    names = list(of_sessions(dict.fromkeys(opened.names), sessions))
    masks = {}
    for row, unit in enumerate(shown):
        for name, (data, present) in opened.find(unit).items():
            if present and data and name in names and (mask := data.get_roi_mask_array([unit])[0]).any():
                masks[row, names.index(name)] = (data, mask)
    if not masks:
        raise ValueError(NO_DATA)
    half = max(int(np.ceil(np.ptp(np.nonzero(mask), axis=1).max() / 2)) for _, mask in masks.values()) + margin
    pitch = 2 * half + 2  # a line of grey between thumbnails

    labels = [f"cell {unit}" for unit in shown]
    width = 0.4 + 0.09 * max(map(len, labels), default=0) + 0.8 * max(3, len(names))
    n_blocks = _n_blocks(len(shown), width)
    in_block = -(-len(shown) // n_blocks)
    figure = new_figure(figsize=(width * n_blocks, 0.9 + 0.8 * in_block))
    slanted = max(map(len, names), default=0) > 9  # wider than a thumbnail
    image_of = cache(lambda data: data.get_max_projection())
    for block in range(n_blocks):
        axes = figure.add_subplot(1, n_blocks, block + 1)
        rows = range(block * in_block, min((block + 1) * in_block, len(shown)))
        mosaic = np.full((in_block * pitch, len(names) * pitch), ABSENT_GREY, np.float32)
        mosaic[len(rows) * pitch :] = 1  # nothing below the last unit
        for (row, column), (data, mask) in masks.items():
            if row in rows:
                corner = (row - rows[0]) * pitch, column * pitch
                thumbnail = mosaic[corner[0] : corner[0] + pitch - 1, corner[1] : corner[1] + pitch - 1]
                _fill_thumbnail(thumbnail, tile_around(image_of(data), centre_of(mask), half))
                draw_outline(axes, tile_around(mask, centre_of(mask), half) == 1, corner)
        axes.imshow(mosaic, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_xticks(np.arange(len(names)) * pitch + half, names, rotation=45 if slanted else 0)
        axes.set_yticks(np.arange(len(rows)) * pitch + half, labels[rows.start : rows.stop])
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        for label in axes.get_xticklabels():
            label.set(ha="left" if slanted else "center", rotation_mode="anchor")
        axes.spines[:].set_visible(False)
    # "1 to 24 of 40" would be read as the cells' own numbers
    draw_heading(
        figure,
        counted(len(units), "cell") if len(shown) == len(units) else f"{len(shown)} of {len(units)} cells, page {page}",
    )
    return figure


def _fill_thumbnail(thumbnail: np.ndarray, tile: np.ndarray) -> None:
    """Put a tile's grey values, from 0 to 1, into its place in a gallery; what lies outside the image stays grey."""
    low, high = grey_limits(tile)
    np.copyto(thumbnail, np.clip((tile - low) / max(high - low, 1e-9), 0, 1), where=~np.isnan(tile))


def _n_blocks(n_rows: int, width: float) -> int:
    """Return how many blocks of a width in inches stand side by side, so that a gallery is not taller than wide."""
    n_blocks = 1
    while 0.8 * -(-n_rows // n_blocks) > max(_TALL, n_blocks * width):
        n_blocks += 1
    return n_blocks


def plot_presence(opened: "Followed") -> "Figure":
    """Draw which unit is in which session, and how many units are in each session and in how many sessions.

    Parameters
    ----------
    opened
        As of `plot_unit_across_sessions`; units without any data will do.

    Returns
    -------
    matplotlib.figure.Figure
        Units come in the order of the number of their sessions.

    Raises
    ------
    ValueError
        There are no units.
    ImportError
        matplotlib is not installed.
    """
    presence = opened.presence
    if presence.empty:
        raise ValueError("no cells to draw")
    table = presence.to_numpy().T
    n_sessions, n_units = table.shape
    counts = table.sum(axis=0)
    table = table[:, np.lexsort((*~table[::-1], -counts))]

    few = n_sessions <= 40  # so that each has room for a label
    height = np.clip(0.28 * n_sessions, 1.2, 7.0)  # inches
    figure = new_figure(figsize=(9, height + 2.6))
    grid = figure.add_gridspec(2, 2, width_ratios=(4, 1), height_ratios=(height, 1.2))
    matrix = figure.add_subplot(grid[0, 0])
    starts = np.arange(0, n_units, -(-n_units // _MAX_COLUMNS))
    shares = np.add.reduceat(table, starts, axis=1, dtype=float) / np.diff([*starts, n_units])
    extent = (0.5, n_units + 0.5, n_sessions - 0.5, -0.5)  # cells are counted from 1
    colours = _shades("white", TRACE)
    matrix.imshow(shares, aspect="auto", cmap=colours, vmin=0, vmax=1, interpolation="nearest", extent=extent)
    matrix.set(xlabel="cells, by number of sessions", ylabel="session")
    step = 1 if few else -(-n_sessions // 40)
    matrix.set_yticks(np.arange(0, n_sessions, step), presence.columns[::step])
    matrix.xaxis.set_major_locator(_whole_numbers())

    per_session = figure.add_subplot(grid[0, 1], sharey=matrix)
    bars = per_session.barh(np.arange(n_sessions), table.sum(axis=1), height=0.75 if few else 1.0, color=TRACE)
    per_session.set(xlabel="cells", xlim=(0, 1.25 * max(1, table.sum(axis=1).max())))
    per_session.tick_params(labelleft=False)
    if few:
        per_session.bar_label(bars, padding=3, fontsize="small")

    per_unit = figure.add_subplot(grid[1, 0])
    many = np.bincount(counts, minlength=n_sessions + 1 if few else 0)[1:]
    bars = per_unit.bar(np.arange(1, len(many) + 1), many, width=0.75, color=TRACE)
    per_unit.set(xlabel="number of sessions", ylabel="cells", ylim=(0, 1.3 * max(1, many.max())))
    per_unit.xaxis.set_major_locator(_whole_numbers())
    for axis in (per_session.xaxis, per_unit.yaxis):
        axis.set_major_locator(_whole_numbers(n=4))
    if sum(len(str(n)) for n in many) <= 60:  # characters that fit side by side
        per_unit.bar_label(bars, padding=2, fontsize="small")
    for axes in (per_session, per_unit):
        axes.spines[["top", "right"]].set_visible(False)
    everywhere = int((counts == n_sessions).sum())
    heading = f"{counted(n_units, 'cell')} in {counted(n_sessions, 'session')}, {everywhere:,} in all of them"
    draw_heading(figure, heading)
    return figure


def _whole_numbers(n: int = 9) -> Any:
    """Return a locator of up to n ticks at whole numbers, also where only one fits."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(n, integer=True, min_n_ticks=1)


def _shades(low: str, high: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", [low, high])
