"""What all figures share: the canvas, the colours, images in grey, words where there is nothing to draw."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Wong's colour-blind safe palette
BEFORE, AFTER = "#D55E00", "#0072B2"
TRACE, ABSENT = AFTER, "#8C8C8C"
COLOURS = (AFTER, BEFORE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_LIMITS = 0.5, 99.7  # percentiles of an image that become black and white


def new_figure(**options: Any) -> "Figure":
    """Return an empty figure that no window manager knows of, so that it needs no screen.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "pyflow-2p[plot]"') from error
    figure = Figure(layout="constrained", dpi=150, **options)
    FigureCanvasAgg(figure)
    return figure


def grey_limits(image: np.ndarray) -> tuple[float, float]:
    """Return the values of an image that become black and white; pixels that are not finite do not count."""
    finite = image[np.isfinite(image)]
    return tuple(np.percentile(finite, _LIMITS).tolist()) if finite.size else (0.0, 1.0)


def draw_image(axes: "Axes", image: np.ndarray, limits: tuple[float, float] | None = None) -> None:
    """Draw an image (H, W) in grey; `limits` are the values of black and white, `grey_limits` by default."""
    low, high = grey_limits(image) if limits is None else limits
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-9), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def draw_heading(figure: "Figure", text: str) -> None:
    """Write what the figure shows above all of it."""
    figure.suptitle(text, x=0.02, ha="left", fontweight="bold")


def counted(n: int, what: str) -> str:
    """Return how many there are of something."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def say(axes: "Axes", text: str) -> None:
    """Write a word where there is nothing to draw."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=ABSENT)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False, labelleft=False)
