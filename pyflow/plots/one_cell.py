"""Figures of one cell in all its sessions: where it is, its traces, its spikes, its responses to a movie."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pyflow.plots.cells import ABSENT_GREY, NO_DATA, Followed, centre_of, draw_outline, of_sessions, tile_around
from pyflow.plots.drawing import COLOURS, TRACE, draw_heading, draw_image, grey_limits, new_figure, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS = {"dff": "dF/F"}  # of kinds of traces whose name is not their label


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
    places = of_sessions(opened.find(unit), sessions)
    drawn = {name: data for name, (data, present) in places.items() if present and data}
    if not drawn:
        raise ValueError(NO_DATA)
    masks = {name: mask for name, data in drawn.items() if (mask := data.get_roi_mask_array([unit])[0]).any()}
    traces = {name: data.get_traces(kind, [unit]) for name, data in drawn.items()}
    centre = np.mean([centre_of(mask) for mask in masks.values()], axis=0) if masks else None
    radius = max((np.ptp(np.nonzero(mask), axis=1).max() / 2 for mask in masks.values()), default=0)
    half = None if margin is None else int(np.ceil(radius)) + margin

    side = 1.4 if margin is not None else 2.2  # inches
    figure = new_figure(figsize=(10, 0.9 + side * len(places)))
    grid = figure.add_gridspec(len(places), 3, width_ratios=(side, side, 9 - 2 * side))
    shared = None
    for row, (name, (data, present)) in enumerate(places.items()):
        image_axes, mask_axes = (figure.add_subplot(grid[row, column]) for column in (0, 1))
        trace_axes = shared = figure.add_subplot(grid[row, 2], sharex=shared, sharey=shared)
        image_axes.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
        for axes in (image_axes, mask_axes):
            axes.set(xticks=[], yticks=[], facecolor=str(ABSENT_GREY))
        if data and masks:
            middle = centre_of(masks[name]) if name in masks else centre
            tile = tile_around(data.get_max_projection(), middle, half)
            draw_image(image_axes, tile)
            mask = tile_around(masks.get(name, np.full(data.source.shape, np.nan)), middle, half)
            mask_axes.imshow(mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            draw_outline(image_axes, mask == 1)
        if name in traces:
            times, values = traces[name]
            trace_axes.plot(times, values[0], color=TRACE, linewidth=0.7, rasterized=True)
        else:
            say(trace_axes, "no data" if present else "absent")
        trace_axes.spines[["top", "right"]].set_visible(False)
        trace_axes.tick_params(labelbottom=row == len(places) - 1)
    shown = [data.source for data, _ in places.values() if data]
    titles = (_one_of(source.image()[1] for source in shown), "mask", _LABELS.get(kind, kind))
    for axes, title in zip(figure.axes, titles, strict=False):
        axes.set_title(title.replace(" ", "\n"), fontsize="medium", loc="left")
    units = {source.time_unit for source in shown}
    shared.set(xlabel="time (s)" if units <= {"s"} else "frame" if units == {"frames"} else "time (s or frames)")
    shared.set_xlim(min(times[0] for times, _ in traces.values()), max(times[-1] for times, _ in traces.values()))
    there = sum(present for _, present in places.values())
    draw_heading(figure, f"cell {unit}, in {there} of {len(places)} sessions")
    return figure


def _one_of(names: Any) -> str:
    """Return the name that all share, or a word for any of them."""
    found = set(names)
    return found.pop() if len(found) == 1 else "image"


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
    trains = of_sessions(trains)
    there = {name: train for name, train in trains.items() if train is not None}
    if not there:
        raise ValueError("no spikes to draw")
    longest = max(train.duration_s for train in there.values())
    bin_s = bin_s or max(longest / 100, 1e-3)
    rates = {name: train.rate(bin_s) for name, train in there.items()}
    highest = max(max(rate.max() for _, rate in rates.values()), 1e-9)

    figure = new_figure(figsize=(11, 1.0 + 1.25 * max(2, len(trains))))
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
            say(time_axes, "absent")
            say(waveform_axes, "")
            say(lag_axes, "")
        else:
            _draw_waveform(waveform_axes, train.waveform)
            lags, counts = train.autocorrelogram()
            lag_axes.bar(1e3 * lags, counts, width=1e3 * (lags[1] - lags[0]), color=TRACE)
            if not counts.any():
                say(lag_axes, "none")
            starts, rate = rates[name]
            time_axes.stairs(rate, [*starts, starts[-1] + bin_s], color=TRACE, fill=True, alpha=0.35)
            _draw_raster(time_axes, train, highest)
    of_time.set(xlim=(0, longest), ylim=(0, 1.45 * highest), xlabel="time (s)")
    of_waveform.set(xlabel="ms")
    of_lags.set(xlabel="lag (ms)")
    for axes, heading in zip(figure.axes[:3], ("waveform", "autocorrelogram\n(Hz)", "spikes, rate (Hz)"), strict=True):
        axes.set_title(heading, fontsize="medium", loc="left")
    figure.align_ylabels()  # else names of sessions without numbers at their axes stand elsewhere
    _draw_depths(figure.add_subplot(grid[:, 3]), trains)
    draw_heading(figure, title or f"{len(there)} of {len(trains)} sessions")
    return figure


def _draw_waveform(axes: "Axes", waveform: Any | None) -> None:
    """Draw a waveform (None: unknown) on the channel where it is loudest, against milliseconds."""
    if waveform is None:
        say(axes, "none")
    else:
        axes.plot(1e3 * waveform.times_s, waveform.samples[:, waveform.loudest], color=TRACE, linewidth=1.2)


def _draw_raster(axes: "Axes", train: Any, highest: float) -> None:
    """Draw a line for each spike, above rates that go up to `highest`."""
    axes.eventplot(train.times_s, lineoffsets=1.25 * highest, linelengths=0.3 * highest, color=TRACE, linewidths=0.4)
    summary = f"{len(train.times_s)} spikes, {train.rate_hz:.3g} Hz"
    axes.text(1, 1, summary, transform=axes.transAxes, ha="right", va="bottom", fontsize="small")


def _draw_depths(axes: "Axes", trains: dict[str, Any]) -> None:
    depths = [np.nan if train is None else train.depth_um for train in trains.values()]
    axes.set_title("depth (\N{MICRO SIGN}m)", fontsize="medium", loc="left")
    axes.plot(depths, np.arange(len(depths)), "o-", color=TRACE)
    axes.set(ylim=(len(depths) - 0.5, -0.5), yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    if np.isnan(depths).all():
        say(axes, "unknown")
    else:
        middle = np.nanmean(depths)
        half = max(20.0, 1.2 * np.nanmax(np.abs(np.array(depths) - middle)))  # so that a still unit looks still
        axes.set_xlim(middle - half, middle + half)


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
    responses = of_sessions(responses)
    there = {name: response for name, response in responses.items() if np.isfinite(response).any()}
    if not there:
        raise ValueError("no responses to draw")
    low, high = grey_limits(np.concatenate([response.ravel() for response in there.values()]))
    heights = [1] * len(responses) + [2]
    figure = new_figure(figsize=(9, 0.9 + 0.75 * sum(heights)))
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
            say(axes, "absent")
            continue
        extent = (-0.5, response.shape[1] - 0.5, response.shape[0] + 0.5, 0.5)  # repeats are counted from 1
        shown = axes.imshow(
            response, cmap="viridis", vmin=low, vmax=max(high, low + 1e-9), aspect="auto", extent=extent
        )
        axes.set_yticks([1, len(response)])
        repeats = np.isfinite(response).sum(axis=0)
        mean = np.divide(np.nansum(response, axis=0), repeats, where=repeats > 0, out=np.full(len(repeats), np.nan))
        mean_axes.plot(mean, linewidth=1.2, label=f"{name}, {len(response)} repeats", color=COLOURS[row % len(COLOURS)])
    unit = _LABELS.get(kind, kind)
    figure.colorbar(shown, ax=figure.axes[1:], label=unit, pad=0.01)
    n_frames = max(response.shape[1] for response in there.values())
    mean_axes.set(xlabel="frame of the movie", ylabel=f"mean {unit}", xlim=(-0.5, n_frames - 0.5))
    mean_axes.spines[["top", "right"]].set_visible(False)
    if len(there) <= len(COLOURS):  # of more sessions the colours would repeat
        figure.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=3)
    draw_heading(figure, title or f"{len(there)} of {len(responses)} sessions")
    return figure
