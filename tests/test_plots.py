"""Figures are drawn from what they claim to show."""

import numpy as np
import pytest

from pyflow import plots


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


def test_movies_must_match(movies):
    with pytest.raises(ValueError, match="expected the same"):
        plots.plot_before_after(movies[0], movies[1][:, 1:])
