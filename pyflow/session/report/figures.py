"""The pictures in a report, each within its page: photographs as WebP, curves as SVG."""

import base64
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np

from pyflow.flow.filters import resize
from pyflow.plots.drawing import ABSENT, AFTER, BEFORE, grey_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKED = "#CC79A7"  # of the same palette as `BEFORE` and `AFTER`
_INK = "#222222"

_QUALITIES = 80, 60, 40, 20  # of WebP, best first: below, grain turns into patches
_POINTS = 240  # of a curve; of more frames, each point stands for several
_ARROWS = 14  # along the longer side
_STILL = 1e-3  # pixels below which there is nothing to draw arrows of
_PANELS = (0.01, 0.4), (0.415, 0.018), (0.52, 0.4), (0.925, 0.018)  # left ends and widths: an image, its colours, twice
_MASK_SIDE = 256


@dataclass(frozen=True)
class Picture:
    """An image as a page holds it: a data URI, its size in pixels, and what stands for it where it is not seen."""

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Detail:
    """How large a report's images are: `side` at most, in pixels, and about `n_bytes` at most in the page."""

    side: int
    n_bytes: int


def photograph(image: np.ndarray, detail: Detail, alt: str, limits: tuple[float, float] | None = None) -> Picture:
    """Draw an image (H, W) in grey; `limits` are black and white, its own by default."""
    grey = _bytes(_reduced(image, detail.side), limits or grey_limits(image))
    return _webp(np.repeat(grey[..., np.newaxis], 3, axis=-1), detail.n_bytes, alt)


def overlay(centre: np.ndarray, other: np.ndarray, detail: Detail, alt: str) -> Picture:
    """Draw one image (H, W) in green and another in red: yellow is what they have in common."""
    red, green = (_bytes(_reduced(image, detail.side), grey_limits(image)) for image in (other, centre))
    return _webp(np.stack([red, green, np.zeros_like(red)], axis=-1), detail.n_bytes, alt)


def mask_picture(mask: np.ndarray, alt: str) -> Picture:
    """Draw a bool mask (H, W): white where it is valid."""
    step = max(1, -(-max(mask.shape) // _MASK_SIDE))
    small = mask[::step, ::step].astype(np.uint8) * 255
    return _picture("png", imagecodecs.png_encode(small), small.shape, alt)


def curves(
    statistics: Mapping[str, np.ndarray],
    frames: np.ndarray,
    correlations: Mapping[str, np.ndarray],
    marked: Collection[int],
    alt: str,
) -> Picture:
    """Draw what is known of a recording's frames over time.

    Parameters
    ----------
    statistics
        ``mean_disp``, ``max_disp`` and ``misfit``, as far as they are known, float (T,), NaN for marked frames.
    frames
        Of the correlations, int (N,).
    correlations
        ``before`` and ``after``, as far as they are known, float (N,).
    marked
        Frames that were not registered.
    """
    panels = [name for name in ("mean_disp", "correlation", "misfit") if name in statistics]
    panels += ["correlation"] if correlations else []
    panels = [name for name in ("mean_disp", "correlation", "misfit") if name in panels]
    height = 1.35 * len(panels) + 0.35
    figure = _figure(5.4, height)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.125, right=0.98, top=1 - 0.22 / height, bottom=0.42 / height, hspace=0.42)
    for place, panel in zip(axes, panels, strict=True):
        if panel == "mean_disp":
            for name, colour, label in (("max_disp", BEFORE, "largest"), ("mean_disp", AFTER, "mean")):
                _line(place, *_thinned(statistics[name]), colour, label)
            _title(place, "displacement (px)")
        elif panel == "correlation":
            for name, colour in (("before", BEFORE), ("after", AFTER)):
                if name in correlations:
                    mean = correlations[name].mean()
                    _line(place, frames, correlations[name], colour, f"{name} (mean {mean:.3f})")
            _title(place, "correlation with the mean")
        else:
            _line(place, *_thinned(statistics["misfit"]), AFTER, None)
            _title(place, "misfit to the reference")
        _mark(place, marked, max(len(values) for values in (*statistics.values(), [max(frames, default=0) + 1])))
        if panel != "misfit":
            place.legend(
                loc="lower right", bbox_to_anchor=(1, 0.98), frameon=False, ncols=2, fontsize=7, borderaxespad=0
            )
        if panel == "mean_disp":
            place.set_ylim(bottom=0)
    if axes.size:
        axes[-1].set_xlabel("frame", fontsize=8)
    return _svg(figure, alt)


def depth_picture(depth: np.ndarray, smoothed: np.ndarray, n_planes: int, alt: str) -> Picture:
    """Draw the depth (T,) of a recording's focus over time, in planes; of many frames, some."""
    figure = _figure(5.4, 1.9)
    place = figure.subplots()
    figure.subplots_adjust(left=0.125, right=0.98, top=0.88, bottom=0.22)
    frames = np.arange(0, len(depth), max(1, -(-len(depth) // _POINTS)))
    place.plot(frames, depth[frames], ".", color=ABSENT, markersize=3, label="each frame")
    _line(place, frames, smoothed[frames], AFTER, "averaged over time")
    _title(place, "depth (plane of the stack)")
    place.set_ylim(n_planes - 0.8, -0.2)  # the surface is on top
    place.yaxis.get_major_locator().set_params(integer=True)
    place.legend(loc="lower right", bbox_to_anchor=(1, 0.98), frameon=False, ncols=2, fontsize=7, borderaxespad=0)
    place.set_xlabel("frame", fontsize=8)
    return _svg(figure, alt)


def field_picture(w: np.ndarray, valid: np.ndarray, residual: np.ndarray | None, detail: Detail, alt: str) -> Picture:
    """Draw a displacement (H, W, 2) as arrows on its length in pixels, and beside it the residual of its tiles."""
    height, width = w.shape[:2]
    shape = np.clip(height / width, 0.4, 1.6)
    rows = 2.35 * shape + 0.55
    figure = _figure(5.6, rows)
    left, left_bar, right, right_bar = (figure.add_axes((x, 0.02, wide, 1 - 0.3 / rows - 0.02)) for x, wide in _PANELS)
    length = np.where(valid, np.linalg.norm(w, axis=-1), np.nan)
    most = float(np.nanmax(length)) if valid.any() else 0.0
    step = max(1, max(height, width) // 384)
    image = left.imshow(
        length[::step, ::step],
        cmap="viridis",
        vmin=0,
        vmax=max(most, 0.1),
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )
    figure.colorbar(image, cax=left_bar).ax.tick_params(labelsize=7)
    every = max(1, max(height, width) // _ARROWS)
    y, x = np.mgrid[every // 2 : height : every, every // 2 : width : every]
    there = valid[y, x]
    # the longest arrow spans the space between two
    scale = 0.9 * every / max(most, _STILL)
    u, v = (w[y, x, axis][there] * scale for axis in (0, 1))
    left.quiver(
        *(x[there], y[there], u, v),
        angles="xy",
        scale_units="xy",
        scale=1,
        color="white",
        edgecolor=_INK,
        linewidth=0.3,
        width=0.006,
    )
    left.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    _title(left, f"displacement (px), arrows times {scale:.2g}" if most > _STILL else "displacement (px)")
    _title(right, "residual of the tiles (px)")
    for place in (left, right):
        place.set(xticks=[], yticks=[], aspect="equal")
        place.set_facecolor("#DDDDDD")
    if residual is None:
        right.text(0.5, 0.5, "not stored", transform=right.transAxes, ha="center", va="center", color=ABSENT)
        right.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        right_bar.remove()
    else:
        tiles = right.imshow(
            residual,
            cmap="magma",
            vmin=0,
            vmax=4,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="nearest",
        )
        figure.colorbar(tiles, cax=right_bar).ax.tick_params(labelsize=7)
        if residual.size <= 12 * 12:
            for (row, column), value in np.ndenumerate(residual):
                across, down = (column + 0.5) * width / residual.shape[1], (row + 0.5) * height / residual.shape[0]
                if np.isfinite(value):
                    right.text(
                        *(across - 0.5, down - 0.5, f"{value:.0f}"),
                        ha="center",
                        va="center",
                        fontsize=6,
                        color="white" if value < 2.5 else _INK,
                    )
    return _raster(figure, detail, alt)


def share_picture(share: np.ndarray, detail: Detail, alt: str) -> Picture:
    """Draw in which share of the frames each pixel is valid, in the recording where that is least."""
    height, width = share.shape
    ratio = np.clip(height / width, 0.4, 1.6)
    figure = _figure(3.9, 3.1 * ratio + 0.1)
    place = figure.subplots()
    figure.subplots_adjust(left=0.01, right=0.86, top=0.96, bottom=0.04)
    step = max(1, max(height, width) // 384)
    image = place.imshow(share[::step, ::step] * 100, cmap="cividis", vmin=0, vmax=100, interpolation="nearest")
    bar = figure.colorbar(image, ax=place, fraction=0.046, pad=0.02, ticks=(0, 50, 100))
    bar.ax.set_yticklabels(["0 %", "50 %", "100 %"], fontsize=7)
    place.set(xticks=[], yticks=[])
    return _raster(figure, detail, alt)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _title(axes: "Axes", text: str) -> None:
    axes.set_title(text, fontsize=8, loc="left", color=_INK, pad=4)


def _line(axes: "Axes", frames: np.ndarray, values: np.ndarray, colour: str, label: str | None) -> None:
    few = len(frames) < 3
    axes.plot(frames, values, color=colour, linewidth=1, label=label, marker="o" if few else None, markersize=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(nbins=4)
    axes.margins(x=0.01)


def _thinned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frames and values to draw; of many, the largest of several that follow each other."""
    step = -(-len(values) // _POINTS)
    starts = np.arange(0, len(values), max(step, 1))
    if step <= 1:
        return starts, values
    padded = np.full(len(starts) * step, -np.inf)
    padded[: len(values)] = np.where(np.isnan(values), -np.inf, values)
    most = padded.reshape(-1, step).max(axis=1)
    return starts, np.where(np.isinf(most), np.nan, most)


def _mark(axes: "Axes", marked: Collection[int], n_frames: int) -> None:
    """Shade frames, as one shape however many there are."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    step = max(1, -(-n_frames // _POINTS))
    boxes = []
    for first, last in _runs({frame // step for frame in marked}):
        left, right = first * step - 0.5, (last + 1) * step - 0.5
        boxes.append(Path([(left, 0), (right, 0), (right, 1), (left, 1), (left, 0)], closed=True))
    if boxes:
        shape = Path.make_compound_path(*boxes)
        axes.add_patch(PathPatch(shape, transform=axes.get_xaxis_transform(), color=MARKED, alpha=0.55, linewidth=0))


def _runs(frames: Collection[int]) -> list[tuple[int, int]]:
    """Return the first and the last of frames that follow each other."""
    if not frames:
        return []
    found = np.sort(np.fromiter(frames, np.int64))
    runs = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)
    return [(int(run[0]), int(run[-1])) for run in runs]


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    image = np.nan_to_num(image.astype(np.float32), posinf=0, neginf=0)
    factor = max(image.shape) / side
    if factor <= 1:
        return image
    return resize(image, tuple(max(1, round(size / factor)) for size in image.shape), n_threads=1)


def _bytes(image: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    low, high = limits
    return (np.clip((image - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)


def _webp(image: np.ndarray, n_bytes: int, alt: str) -> Picture:
    for quality in _QUALITIES:
        content = imagecodecs.webp_encode(np.ascontiguousarray(image), level=quality, lossless=False)
        if len(content) * 4 <= n_bytes * 3:  # four characters in the page for three bytes
            break
    return _picture("webp", content, image.shape, alt)


def _raster(figure: "Figure", detail: Detail, alt: str) -> Picture:
    figure.canvas.draw()
    return _webp(np.asarray(figure.canvas.buffer_rgba())[..., :3], detail.n_bytes, alt)


def _svg(figure: "Figure", alt: str) -> Picture:
    from matplotlib import rc_context

    file = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", metadata={"Creator": None, "Date": None, "Format": None, "Type": None})
    width, height = (figure.get_size_inches() * 96).astype(int).tolist()
    return _picture("svg+xml", file.getvalue(), (height, width), alt)


def _picture(kind: str, content: bytes, shape: tuple[int, ...], alt: str) -> Picture:
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Picture(uri, shape[1], shape[0], alt)
