"""Figures of one recording: what registration did to it, and how deep its focus lay."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pyflow.plots.drawing import AFTER, BEFORE, TRACE, draw_heading, draw_image, grey_limits, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Focus(Protocol):
    """How deep a recording's focus lay, as `pyflow.motion.depth.estimate_depth` finds it."""

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
    limits = grey_limits(means[1])
    height, width = before.shape[1:]

    figure = new_figure(figsize=(9.6, 4.8 * height / width + 2.2))
    grid = figure.add_gridspec(2, 4, height_ratios=(4.8 * height / width, 1.6), width_ratios=(1, 0.42, 1, 0.42))
    for column, (name, mean, colour) in enumerate(zip(("recorded", "registered"), means, (BEFORE, AFTER), strict=True)):
        whole = figure.add_subplot(grid[0, 2 * column])
        draw_image(whole, mean, limits)
        whole.set_title(f"mean, {name}", color=colour, loc="left")
        whole.add_patch(_frame(corner, zoom))
        detail = figure.add_subplot(grid[0, 2 * column + 1])
        draw_image(detail, mean[corner[0] : corner[0] + zoom, corner[1] : corner[1] + zoom], limits)
        detail.set_title("detail", loc="left")

    curve = figure.add_subplot(grid[1, :])
    for name, movie, mean, colour in zip(
        ("recorded", "registered"), (before, after), means, (BEFORE, AFTER), strict=True
    ):
        found = correlation_with_mean(movie, mean)
        curve.plot(found, color=colour, linewidth=1.2, label=f"{name} (mean {found.mean():.3f})")
    curve.set(xlabel="frame", ylabel="correlation with\nthe mean", xlim=(0, max(1, len(before) - 1)))
    curve.xaxis.get_major_locator().set_params(integer=True)
    curve.spines[["top", "right"]].set_visible(False)
    curve.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    if title:
        draw_heading(figure, title)
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
    figure = new_figure(figsize=(9, 3.6))
    axes = figure.add_subplot()
    extent = (-0.5 / rate, (n_frames - 0.5) / rate, (n_planes - 0.5) * step, -0.5 * step)
    image = axes.imshow(depth.correlation.T, aspect="auto", extent=extent, cmap="gray", interpolation="nearest")
    axes.plot(time, depth.depth * step, ".", markersize=2, color=BEFORE, label="each frame")
    axes.plot(time, depth.smoothed * step, color=TRACE, linewidth=1.6, label="averaged over time")
    axes.set(
        xlabel="time (s)" if frame_rate_hz else "frame",
        ylabel="depth (µm)" if step_um else "depth (plane)",
    )
    axes.legend(loc="upper right", fontsize="small")
    figure.colorbar(image, ax=axes, label="correlation with the plane")
    known = depth.smoothed[np.isfinite(depth.smoothed)] * step
    unit = "µm" if step_um else "planes"
    draw_heading(
        figure,
        f"focus between {known.min():.1f} and {known.max():.1f} {unit}, average at {depth.center * step:.1f}"
        if known.size
        else "no frame shows anything",
    )
    return figure


def correlation_with_mean(movie: np.ndarray, mean: np.ndarray | None = None) -> np.ndarray:
    """Correlate each frame with the movie's mean (Pearson).

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


def _frame(corner: tuple[int, int], side: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((corner[1] - 0.5, corner[0] - 0.5), side, side, fill=False, edgecolor="white", linewidth=0.8)


def _busiest_corner(image: np.ndarray, side: int) -> tuple[int, int]:
    """Return the top left corner of the square, away from the border, whose gradient is largest."""
    rows, columns = np.gradient(np.clip(image, None, np.percentile(image, 99.5)))
    energy = np.cumsum(np.cumsum(rows**2 + columns**2, axis=0), axis=1)
    boxes = energy[side:, side:] - energy[:-side, side:] - energy[side:, :-side] + energy[:-side, :-side]
    rim = [min(size // 10, (size - 1) // 2) for size in boxes.shape]
    inner = boxes[rim[0] : boxes.shape[0] - rim[0], rim[1] : boxes.shape[1] - rim[1]]
    row, column = np.unravel_index(np.argmax(inner), inner.shape)
    return int(row) + rim[0] + 1, int(column) + rim[1] + 1
