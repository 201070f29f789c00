"""Figures that people look at. They need matplotlib: ``pip install "pyflow-2p[plot]"``."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Wong's colour-blind safe palette
_BEFORE, _AFTER = "#D55E00", "#0072B2"
_OUTLINE, _TRACE, _ABSENT = "#E69F00", "#0072B2", "#8C8C8C"
_COLOURS = (_AFTER, _BEFORE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_ABSENT_GREY = 0.93  # of images where there is no cell
_LIMITS = 0.5, 99.7  # percentiles of an image that become black and white

_MAX_SESSIONS = 30  # drawn as rows or columns of images; more would be too small to see
_TALL = 6.0  # inches; a gallery that is taller than this and than it is wide goes on in a second block
_NO_DATA = "no data to draw: the sessions of these cells do not say where their results are (their source)"
_MAX_COLUMNS = 2000  # of the presence matrix; where there are more units, a column shows the share of several


class Followed(Protocol):
    """What figures of units need to know: who is where; `pyflow.units.open_sessions` makes one.

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
        """By session: the data set that holds the cell (None without one), and whether the cell is present."""


class Focus(Protocol):
    """What `plot_depth` draws."""

    depth: np.ndarray
    smoothed: np.ndarray
    correlation: np.ndarray
    center: float


def plot_before_after(before: np.ndarray, after: np.ndarray, *, zoom: int | None = None, title: str = "") -> "Figure":
    """Draw what registration did to a movie: mean images, a detail of them, and each frame's correlation with the mean.

    Parameters
    ----------
    before, after : ndarray, shape (T, H, W)
        The movie as recorded and registered.
    zoom : int, optional
        Side of the detail in pixels; a quarter of the shorter side by default. It is taken where the registered mean
        has most structure.
    title : str
        Stands above all.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        The shapes differ or are not (T, H, W).
    ImportError
        matplotlib is not installed.
    """
    if before.shape != after.shape or before.ndim != 3:
        raise ValueError(f"before has shape {before.shape}, after {after.shape}: expected the same (T, H, W)")
    zoom = zoom or max(16, min(before.shape[1:]) // 4)
    means = [movie.mean(axis=0, dtype=np.float64) for movie in (before, after)]
    corner = _busiest_corner(means[1], zoom)
    limits = tuple(np.percentile(means[1], (0.5, 99.7)))
    height, width = before.shape[1:]

    figure = _figure(figsize=(9.6, 4.8 * height / width + 2.2))
    grid = figure.add_gridspec(2, 4, height_ratios=(4.8 * height / width, 1.6), width_ratios=(1, 0.42, 1, 0.42))
    for column, (name, mean, colour) in enumerate(
        zip(("recorded", "registered"), means, (_BEFORE, _AFTER), strict=True)
    ):
        whole = figure.add_subplot(grid[0, 2 * column])
        _image(whole, mean, limits)
        whole.set_title(f"mean, {name}", color=colour, loc="left")
        whole.add_patch(_frame(corner, zoom))
        detail = figure.add_subplot(grid[0, 2 * column + 1])
        _image(detail, mean[corner[0] : corner[0] + zoom, corner[1] : corner[1] + zoom], limits)
        detail.set_title("detail", loc="left")

    curve = figure.add_subplot(grid[1, :])
    for name, movie, mean, colour in zip(
        ("recorded", "registered"), (before, after), means, (_BEFORE, _AFTER), strict=True
    ):
        found = correlation_with_mean(movie, mean)
        curve.plot(found, color=colour, linewidth=1.2, label=f"{name} (mean {found.mean():.3f})")
    curve.set(xlabel="frame", ylabel="correlation with\nthe mean", xlim=(0, max(1, len(before) - 1)))
    curve.xaxis.get_major_locator().set_params(integer=True)
    curve.spines[["top", "right"]].set_visible(False)
    curve.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold")
    return figure


def plot_unit_across_sessions(
    opened: "Followed",
    unit: int | str,
    *,
    kind: str = "dff",
    margin: int | None = 20,
    sessions: list[str] | None = None,
) -> "Figure":
    """Draw one unit, a row per session: image with its outline, mask, and trace, all traces on one time axis.

    Parameters
    ----------
    opened : Sessions
        What `pyflow.units.open_sessions` opens.
    unit : int or str
        Cell specimen id: the multi-session unit's number in a store.
    kind : str
        Kind of traces.
    margin : int, optional
        Pixels to show around the unit; None shows the whole image.
    sessions : list of str, optional
        All by default, 30 at most.

    Returns
    -------
    matplotlib.figure.Figure
        Sessions without the unit show the image where it would be.

    Raises
    ------
    ValueError
        No session has the unit, none of them has data of it, or more than 30 sessions.
    ImportError
        matplotlib is not installed.
    """
    places = _chosen(opened.find(unit), sessions)
    drawn = {name: data for name, (data, present) in places.items() if present and data}
    if not drawn:
        raise ValueError(_NO_DATA)
    masks = {name: mask for name, data in drawn.items() if (mask := data.get_roi_mask_array([unit])[0]).any()}
    traces = {name: data.get_traces(kind, [unit]) for name, data in drawn.items()}
    centre = np.mean([_centre(mask) for mask in masks.values()], axis=0) if masks else None
    radius = max((np.ptp(np.nonzero(mask), axis=1).max() / 2 for mask in masks.values()), default=0)
    half = None if margin is None else int(np.ceil(radius)) + margin

    side = 1.4 if margin is not None else 2.2  # inches
    figure = _figure(figsize=(10, 0.9 + side * len(places)))
    grid = figure.add_gridspec(len(places), 3, width_ratios=(side, side, 9 - 2 * side))
    shared = None
    for row, (name, (data, present)) in enumerate(places.items()):
        image_axes, mask_axes = (figure.add_subplot(grid[row, column]) for column in (0, 1))
        trace_axes = shared = figure.add_subplot(grid[row, 2], sharex=shared, sharey=shared)
        image_axes.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
        for axes in (image_axes, mask_axes):
            axes.set(xticks=[], yticks=[], facecolor=str(_ABSENT_GREY))
        if data and masks:
            middle = _centre(masks[name]) if name in masks else centre
            tile = _tile(data.get_max_projection(), middle, half)
            _image(image_axes, tile, tuple(np.nanpercentile(tile, _LIMITS)))
            mask = _tile(masks.get(name, np.full(data.source.shape, np.nan)), middle, half)
            mask_axes.imshow(mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            _draw_outline(image_axes, mask == 1)
        if name in traces:
            times, values = traces[name]
            trace_axes.plot(times, values[0], color=_TRACE, linewidth=0.7, rasterized=True)
        else:
            what = "no data" if present else "absent"
            trace_axes.text(0.5, 0.5, what, transform=trace_axes.transAxes, ha="center", va="center", color=_ABSENT)
            trace_axes.spines["left"].set_visible(False)
            trace_axes.tick_params(left=False, labelleft=False)
        trace_axes.spines[["top", "right"]].set_visible(False)
        trace_axes.tick_params(labelbottom=row == len(places) - 1)
    shown = [data.source for data, _ in places.values() if data]
    titles = (_one_of(source.image()[1] for source in shown), "mask", {"dff": "dF/F"}.get(kind, kind))
    for axes, title in zip(figure.axes, titles, strict=False):
        axes.set_title(title.replace(" ", "\n"), fontsize="medium", loc="left")
    units = {source.time_unit for source in shown}
    shared.set(xlabel="time (s)" if units <= {"s"} else "frame" if units == {"frames"} else "time (s or frames)")
    shared.set_xlim(min(times[0] for times, _ in traces.values()), max(times[-1] for times, _ in traces.values()))
    there = sum(present for _, present in places.values())
    _heading(figure, f"cell {unit}, in {there} of {len(places)} sessions")
    return figure


def plot_unit_spikes(trains: dict[str, Any], *, title: str = "", bin_s: float | None = None) -> "Figure":
    """Draw a sorted unit, a row per session: waveform, autocorrelogram, raster with rate; and its depth over sessions.

    Parameters
    ----------
    trains : dict of str to SpikeTrain or None
        What `UnitStore.spikes` returns; None where the cell is absent. 30 sessions at most.
    title : str
        Stands above all.
    bin_s : float, optional
        Of the rate, seconds; a hundredth of the longest session by default.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        The cell has spikes in no session, or more than 30 sessions.
    ImportError
        matplotlib is not installed.
    """
    trains = _chosen(trains, None)
    there = {name: train for name, train in trains.items() if train is not None}
    if not there:
        raise ValueError("no spikes to draw")
    longest = max(train.duration_s for train in there.values())
    bin_s = bin_s or max(longest / 100, 1e-3)
    rates = {name: train.rate(bin_s) for name, train in there.items()}
    highest = max(max(rate.max() for _, rate in rates.values()), 1e-9)

    figure = _figure(figsize=(11, 1.0 + 1.25 * max(2, len(trains))))
    grid = figure.add_gridspec(len(trains), 4, width_ratios=(1.1, 1.2, 4, 1.2))
    of_waveform = of_lags = of_time = None
    for row, (name, train) in enumerate(trains.items()):
        of_waveform = waveform_axes = figure.add_subplot(grid[row, 0], sharex=of_waveform, sharey=of_waveform)
        of_lags = lag_axes = figure.add_subplot(grid[row, 1], sharex=of_lags)
        of_time = time_axes = figure.add_subplot(grid[row, 2], sharex=of_time, sharey=of_time)
        last = row == len(trains) - 1
        for axes in (waveform_axes, lag_axes, time_axes):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelbottom=last)
        waveform_axes.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=24)
        if train is None:
            _say(time_axes, "absent")
            _say(waveform_axes, "")
            _say(lag_axes, "")
            continue
        if train.waveform is not None:
            best = train.waveform.samples[:, train.waveform.loudest]
            waveform_axes.plot(1e3 * train.waveform.times_s, best, color=_TRACE, linewidth=1.2)
        else:
            _say(waveform_axes, "none")
        lags, counts = train.autocorrelogram()
        lag_axes.bar(1e3 * lags, counts, width=1e3 * (lags[1] - lags[0]), color=_TRACE)
        starts, rate = rates[name]
        time_axes.stairs(rate, [*starts, starts[-1] + bin_s], color=_TRACE, fill=True, alpha=0.35)
        time_axes.eventplot(
            train.times_s, lineoffsets=1.25 * highest, linelengths=0.3 * highest, color=_TRACE, linewidths=0.4
        )
        time_axes.text(
            *(1, 1, f"{len(train.times_s)} spikes, {train.rate_hz:.3g} Hz"),
            **{"transform": time_axes.transAxes, "ha": "right", "va": "bottom", "fontsize": "small"},
        )
    of_time.set(xlim=(0, longest), ylim=(0, 1.45 * highest), xlabel="time (s)")
    of_waveform.set(xlabel="ms")
    of_lags.set(xlabel="lag (ms)")
    for axes, heading in zip(figure.axes[:3], ("waveform", "autocorrelogram\n(Hz)", "spikes, rate (Hz)"), strict=True):
        axes.set_title(heading, fontsize="medium", loc="left")
    _draw_depths(figure.add_subplot(grid[:, 3]), trains)
    _heading(figure, title or f"{len(there)} of {len(trains)} sessions")
    return figure


def _draw_depths(axes: "Axes", trains: dict[str, Any]) -> None:
    depths = [np.nan if train is None else train.depth_um for train in trains.values()]
    axes.set_title("depth (\N{MICRO SIGN}m)", fontsize="medium", loc="left")
    axes.plot(depths, np.arange(len(depths)), "o-", color=_TRACE)
    axes.set(ylim=(len(depths) - 0.5, -0.5), yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    if np.isnan(depths).all():
        _say(axes, "unknown")
    else:
        middle = np.nanmean(depths)
        half = max(20.0, 1.2 * np.nanmax(np.abs(np.array(depths) - middle)))  # so that a still unit looks still
        axes.set_xlim(middle - half, middle + half)


def _say(axes: "Axes", text: str) -> None:
    """Write a word where there is nothing to draw."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=_ABSENT)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False, labelleft=False)


def plot_movie_responses(responses: dict[str, np.ndarray], *, title: str = "", kind: str = "dff") -> "Figure":
    """Draw a cell's responses to a movie: a row per session with all repeats, and the sessions' means on one axis.

    Parameters
    ----------
    responses : dict of str to ndarray (repeats, frames)
        What `Sessions.movie_responses` returns; empty where the cell is absent. 30 sessions at most.
    title : str
        Stands above all.
    kind : str
        Kind of traces.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        There is no response, or more than 30 sessions.
    ImportError
        matplotlib is not installed.
    """
    responses = _chosen(responses, None)
    there = {name: response for name, response in responses.items() if np.isfinite(response).any()}
    if not there:
        raise ValueError("no responses to draw")
    low, high = np.nanpercentile(np.concatenate([response.ravel() for response in there.values()]), _LIMITS)
    heights = [1] * len(responses) + [2]
    figure = _figure(figsize=(9, 0.9 + 0.75 * sum(heights)))
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    mean_axes = figure.add_subplot(grid[-1])
    for row, (name, response) in enumerate(responses.items()):
        axes = figure.add_subplot(grid[row], sharex=mean_axes)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.yaxis.set_label_coords(-0.05, 0.5)
        axes.tick_params(labelbottom=False)
        if name not in there:
            axes.tick_params(bottom=False)
            axes.spines[["top", "right", "bottom"]].set_visible(False)
            _say(axes, "absent")
            continue
        extent = (-0.5, response.shape[1] - 0.5, response.shape[0] + 0.5, 0.5)  # repeats are counted from 1
        shown = axes.imshow(
            response, cmap="viridis", vmin=low, vmax=max(high, low + 1e-9), aspect="auto", extent=extent
        )
        axes.set_yticks([1, len(response)])
        repeats = np.isfinite(response).sum(axis=0)
        mean = np.divide(np.nansum(response, axis=0), repeats, where=repeats > 0, out=np.full(len(repeats), np.nan))
        mean_axes.plot(
            mean, linewidth=1.2, label=f"{name}, {len(response)} repeats", color=_COLOURS[row % len(_COLOURS)]
        )
    unit = {"dff": "dF/F"}.get(kind, kind)
    figure.colorbar(shown, ax=figure.axes[1:], label=unit, pad=0.01)
    n_frames = max(response.shape[1] for response in there.values())
    mean_axes.set(xlabel="frame of the movie", ylabel=f"mean {unit}", xlim=(-0.5, n_frames - 0.5))
    mean_axes.spines[["top", "right"]].set_visible(False)
    if len(there) <= len(_COLOURS):  # of more sessions the colours would repeat
        figure.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=3)
    _heading(figure, title or f"{len(there)} of {len(responses)} sessions")
    return figure


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
    names = list(_chosen(dict.fromkeys(opened.names), sessions))
    masks = {}
    for row, unit in enumerate(shown):
        for name, (data, present) in opened.find(unit).items():
            if present and data and name in names and (mask := data.get_roi_mask_array([unit])[0]).any():
                masks[row, names.index(name)] = (data, mask)
    if not masks:
        raise ValueError(_NO_DATA)
    half = max(int(np.ceil(np.ptp(np.nonzero(mask), axis=1).max() / 2)) for _, mask in masks.values()) + margin
    pitch = 2 * half + 2  # a line of grey between thumbnails

    labels = [f"cell {unit}" for unit in shown]
    width = 0.4 + 0.09 * max(map(len, labels), default=0) + 0.8 * max(3, len(names))
    n_blocks = _n_blocks(len(shown), width)
    in_block = -(-len(shown) // n_blocks)
    figure = _figure(figsize=(width * n_blocks, 0.9 + 0.8 * in_block))
    slanted = max(map(len, names), default=0) > 9  # wider than a thumbnail
    images: dict[Any, np.ndarray] = {}
    for block in range(n_blocks):
        axes = figure.add_subplot(1, n_blocks, block + 1)
        rows = range(block * in_block, min((block + 1) * in_block, len(shown)))
        mosaic = np.full((in_block * pitch, len(names) * pitch), _ABSENT_GREY, np.float32)
        mosaic[len(rows) * pitch :] = 1  # nothing below the last unit
        for (row, column), (data, mask) in masks.items():
            if row not in rows:
                continue
            if data not in images:
                images[data] = data.get_max_projection()
            corner = (row - rows[0]) * pitch, column * pitch
            thumbnail = mosaic[corner[0] : corner[0] + pitch - 1, corner[1] : corner[1] + pitch - 1]
            tile = _tile(images[data], _centre(mask), half)
            low, high = np.nanpercentile(tile, _LIMITS)
            np.copyto(thumbnail, np.clip((tile - low) / max(high - low, 1e-9), 0, 1), where=~np.isnan(tile))
            _draw_outline(axes, _tile(mask, _centre(mask), half) == 1, corner)
        axes.imshow(mosaic, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_xticks(np.arange(len(names)) * pitch + half, names, rotation=45 if slanted else 0)
        axes.set_yticks(np.arange(len(rows)) * pitch + half, labels[rows.start : rows.stop])
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        for label in axes.get_xticklabels():
            label.set(ha="left" if slanted else "center", rotation_mode="anchor")
        axes.spines[:].set_visible(False)
    first = (page - 1) * per_page + 1
    _heading(figure, f"cells {first} to {first + len(shown) - 1} of {len(units)}")
    return figure


def _n_blocks(n_rows: int, width: float) -> int:
    """Blocks side by side, each of a width in inches, so that a gallery is not taller than wide."""
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
    figure = _figure(figsize=(9, height + 2.6))
    grid = figure.add_gridspec(2, 2, width_ratios=(4, 1), height_ratios=(height, 1.2))
    matrix = figure.add_subplot(grid[0, 0])
    starts = np.arange(0, n_units, -(-n_units // _MAX_COLUMNS))
    shares = np.add.reduceat(table, starts, axis=1, dtype=float) / np.diff([*starts, n_units])
    extent = (-0.5, n_units - 0.5, n_sessions - 0.5, -0.5)
    colours = _shades("white", _TRACE)
    matrix.imshow(shares, aspect="auto", cmap=colours, vmin=0, vmax=1, interpolation="nearest", extent=extent)
    matrix.set(xlabel="cells, by number of sessions", ylabel="session")
    step = 1 if few else -(-n_sessions // 40)
    matrix.set_yticks(np.arange(0, n_sessions, step), presence.columns[::step])
    matrix.xaxis.get_major_locator().set_params(integer=True)

    per_session = figure.add_subplot(grid[0, 1], sharey=matrix)
    bars = per_session.barh(np.arange(n_sessions), table.sum(axis=1), height=0.75 if few else 1.0, color=_TRACE)
    per_session.set(xlabel="cells", xlim=(0, 1.25 * max(1, table.sum(axis=1).max())))
    per_session.tick_params(labelleft=False)
    if few:
        per_session.bar_label(bars, padding=3, fontsize="small")

    per_unit = figure.add_subplot(grid[1, 0])
    many = np.bincount(counts, minlength=n_sessions + 1 if few else 0)[1:]
    bars = per_unit.bar(np.arange(1, len(many) + 1), many, width=0.75, color=_TRACE)
    per_unit.set(xlabel="number of sessions", ylabel="cells", ylim=(0, 1.3 * max(1, many.max())))
    per_unit.xaxis.get_major_locator().set_params(integer=True)
    if sum(len(str(n)) for n in many) <= 60:  # characters that fit side by side
        per_unit.bar_label(bars, padding=2, fontsize="small")
    for axes in (per_session, per_unit):
        axes.spines[["top", "right"]].set_visible(False)
    _heading(figure, f"{n_units} cells in {n_sessions} sessions, {(counts == n_sessions).sum()} in all of them")
    return figure


def plot_depth(depth: "Focus", *, step_um: float | None = None, frame_rate_hz: float | None = None) -> "Figure":
    """Draw how deep the focus of a recording lay over time, over the correlation with each plane of the stack.

    Parameters
    ----------
    depth
        As `pyflow.motion.depth.estimate_depth` gives it.
    step_um
        Distance of the planes, in micrometres; None: depth is drawn in planes.
    frame_rate_hz
        None: time is drawn in frames.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    n_frames, n_planes = depth.correlation.shape
    rate, step = frame_rate_hz or 1.0, step_um or 1.0
    time = np.arange(n_frames) / rate
    figure = _figure(figsize=(9, 3.6))
    axes = figure.add_subplot()
    extent = (-0.5 / rate, (n_frames - 0.5) / rate, (n_planes - 0.5) * step, -0.5 * step)
    image = axes.imshow(depth.correlation.T, aspect="auto", extent=extent, cmap="gray", interpolation="nearest")
    axes.plot(time, depth.depth * step, ".", markersize=2, color=_BEFORE, label="each frame")
    axes.plot(time, depth.smoothed * step, color=_TRACE, linewidth=1.6, label="averaged over time")
    axes.set(
        xlabel="time (s)" if frame_rate_hz else "frame",
        ylabel="depth (µm)" if step_um else "depth (plane)",
    )
    axes.legend(loc="upper right", fontsize="small")
    figure.colorbar(image, ax=axes, label="correlation with the plane")
    known = depth.smoothed[np.isfinite(depth.smoothed)] * step
    unit = "µm" if step_um else "planes"
    _heading(
        figure,
        f"focus between {known.min():.1f} and {known.max():.1f} {unit}, average at {depth.center * step:.1f}"
        if known.size
        else "no frame shows anything",
    )
    return figure


def correlation_with_mean(movie: np.ndarray, mean: np.ndarray | None = None) -> np.ndarray:
    """Pearson correlation of each frame with the movie's mean.

    Parameters
    ----------
    movie : ndarray, shape (T, H, W)
        The frames.
    mean : ndarray, shape (H, W), optional
        What they are correlated with; their own mean by default.

    Returns
    -------
    ndarray, shape (T,), float64
    """
    if mean is None:
        mean = movie.mean(axis=0, dtype=np.float64)
    centred = mean - mean.mean()
    norm = np.sqrt((centred**2).sum())
    found = np.empty(len(movie))
    for t, frame in enumerate(movie):
        other = frame - frame.mean(dtype=np.float64)
        found[t] = (centred * other).sum() / max(norm * np.sqrt((other**2).sum()), np.finfo(float).tiny)
    return found


def _figure(**options: Any) -> "Figure":
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "pyflow-2p[plot]"') from error
    figure = Figure(layout="constrained", dpi=150, **options)
    FigureCanvasAgg(figure)
    return figure


def _image(axes: "Axes", image: np.ndarray, limits: tuple[float, float]) -> None:
    axes.imshow(image, cmap="gray", vmin=limits[0], vmax=max(limits[1], limits[0] + 1e-9), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _chosen(places: dict[str, Any], sessions: list[str] | None) -> dict[str, Any]:
    unknown = [name for name in sessions or () if name not in places]
    if unknown:
        raise ValueError(f"no session {unknown[0]!r}; there are {', '.join(map(repr, places))}")
    chosen = {name: places[name] for name in (places if sessions is None else sessions)}
    if len(chosen) > _MAX_SESSIONS:
        raise ValueError(f"{len(chosen)} sessions, expected at most {_MAX_SESSIONS}: choose some with sessions=")
    return chosen


def _centre(mask: np.ndarray) -> np.ndarray:
    return np.mean(np.nonzero(mask), axis=1)


def _tile(image: np.ndarray, centre: np.ndarray, half: int | None) -> np.ndarray:
    """Pixels up to `half` around a centre, all without it; NaN outside the image."""
    if half is None:
        return image.astype(np.float32)
    padded = np.pad(image.astype(np.float32), half, constant_values=np.nan)
    row, column = np.round(centre).astype(int)
    return padded[row : row + 2 * half + 1, column : column + 2 * half + 1]


def _draw_outline(axes: "Axes", mask: np.ndarray, corner: Any = (0, 0)) -> None:
    """Draw the edges between a mask's pixels and those outside, shifted to a corner (row, column)."""
    from matplotlib.collections import LineCollection

    padded = np.pad(mask.astype(np.int8), 1)
    y, x = np.nonzero(np.diff(padded, axis=0)[:, 1:-1])
    across = np.stack([np.stack([x, y], -1), np.stack([x + 1, y], -1)], 1)
    y, x = np.nonzero(np.diff(padded, axis=1)[1:-1])
    down = np.stack([np.stack([x, y], -1), np.stack([x, y + 1], -1)], 1)
    segments = np.concatenate([across, down]) + np.asarray(corner)[::-1] - 0.5
    axes.add_collection(LineCollection(segments, colors=_OUTLINE, linewidths=1.0, capstyle="projecting"))


def _shades(low: str, high: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", [low, high])


def _heading(figure: "Figure", text: str) -> None:
    figure.suptitle(text, x=0.02, ha="left", fontweight="bold")


def _one_of(names: Any) -> str:
    """The name that all share, or a word for any of them."""
    found = set(names)
    return found.pop() if len(found) == 1 else "image"


def _frame(corner: tuple[int, int], side: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((corner[1] - 0.5, corner[0] - 0.5), side, side, fill=False, edgecolor="white", linewidth=0.8)


def _busiest_corner(image: np.ndarray, side: int) -> tuple[int, int]:
    """Top left of the square, away from the border, whose gradient is largest."""
    rows, columns = np.gradient(np.clip(image, None, np.percentile(image, 99.5)))
    energy = np.cumsum(np.cumsum(rows**2 + columns**2, axis=0), axis=1)
    boxes = energy[side:, side:] - energy[:-side, side:] - energy[side:, :-side] + energy[:-side, :-side]
    rim = [min(size // 10, (size - 1) // 2) for size in boxes.shape]
    inner = boxes[rim[0] : boxes.shape[0] - rim[0], rim[1] : boxes.shape[1] - rim[1]]
    row, column = np.unravel_index(np.argmax(inner), inner.shape)
    return int(row) + rim[0] + 1, int(column) + rim[1] + 1
