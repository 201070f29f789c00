"""Figures that people look at. They need matplotlib: ``pip install "pyflow-2p[plot]"``."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Wong's colour-blind safe palette
_BEFORE, _AFTER = "#D55E00", "#0072B2"


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


def correlation_with_mean(movie: np.ndarray, mean: np.ndarray | None = None) -> np.ndarray:
    """Pearson correlation of each frame with the movie's mean.

    Parameters
    ----------
    movie : ndarray, shape (T, H, W)
    mean : ndarray, shape (H, W), optional

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
