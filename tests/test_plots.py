"""Figures are drawn from what they claim to show."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyflow import plots
from pyflow.plots.cells import draw_outline


@pytest.fixture
def movies():
    rng = np.random.default_rng(0)
    scene = rng.random((40, 50))
    before = np.stack([np.roll(scene, t, axis=1) for t in range(6)])
    return before, np.stack([scene] * 6) + 0.01 * rng.random((6, 40, 50))


def test_correlation_with_the_mean(movies):
    before, after = movies
    found = plots.correlation_with_mean(before)
    wanted = [np.corrcoef(frame.ravel(), before.mean(axis=0).ravel())[0, 1] for frame in before]
    np.testing.assert_allclose(found, wanted)
    assert plots.correlation_with_mean(after).min() > 0.99
    assert not plots.correlation_with_mean(np.ones((2, 4, 4))).any()


def test_before_and_after_shows_both(movies, tmp_path):
    figure = plots.plot_before_after(*movies, title="day 1")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["mean, recorded", "detail", "mean, registered", "detail", ""]
    labels = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert labels[1] == f"registered (mean {plots.correlation_with_mean(movies[1]).mean():.3f})"
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_an_outline_lies_between_a_mask_and_what_is_around_it():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2], mask[2, 3], mask[4, 5] = True, True, True
    axes = Figure().add_subplot()
    draw_outline(axes, mask, (10, 20))
    drawn = {frozenset(map(tuple, segment)) for segment in axes.collections[0].get_segments()}
    expected = set()
    for y, x in np.argwhere(mask):
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            if not np.pad(mask, 1)[y + down + 1, x + right + 1]:
                middle = np.array([20 + x + right / 2, 10 + y + down / 2])
                along = np.array([abs(down), abs(right)]) / 2
                expected.add(frozenset((tuple(middle - along), tuple(middle + along))))
    assert len(expected) == 8 + 4
    assert drawn == expected


def test_the_detail_shows_where_most_structure_is():
    scene = np.zeros((60, 80))
    scene[40:48, 55:63] = np.random.default_rng(0).random((8, 8))
    movie = np.stack([scene] * 3)
    figure = plots.plot_before_after(movie, movie, zoom=12)
    x, y = figure.axes[0].patches[0].get_xy()
    assert y <= 39.5 < 47.5 <= y + 12
    assert x <= 54.5 < 62.5 <= x + 12


class OneSession:
    """A session with one cell, whose times are in some unit."""

    def __init__(self, unit):
        self.source = SimpleNamespace(shape=(8, 9), time_unit=unit, image=lambda: (np.eye(8, 9), "mean"))

    def get_roi_mask_array(self, cells):
        return np.eye(8, 9)[np.newaxis] > 0

    def get_traces(self, kind, cells):
        return np.arange(5.0), np.arange(5.0)[np.newaxis]

    def get_max_projection(self):
        return np.eye(8, 9)


@pytest.mark.parametrize(
    ("units", "label"), [(("s",), "time (s)"), (("frames",), "frame"), (("s", "frames"), "time (s or frames)")]
)
def test_the_unit_of_time_is_that_of_the_sessions(units, label):
    opened = SimpleNamespace(find=lambda cell: {unit: (OneSession(unit), True) for unit in units})
    assert plots.plot_unit_across_sessions(opened, 1).axes[-1].get_xlabel() == label


def test_movies_must_match(movies):
    with pytest.raises(ValueError, match="expected the same"):
        plots.plot_before_after(movies[0], movies[1][:, 1:])
