"""Figures that people look at. They need matplotlib: ``pip install "pyflow-2p[plot]"``."""

from pyflow.plots.many_cells import plot_presence, plot_unit_gallery
from pyflow.plots.one_cell import plot_movie_responses, plot_unit_across_sessions, plot_unit_spikes
from pyflow.plots.recording import correlation_with_mean, plot_before_after, plot_depth

__all__ = [
    "correlation_with_mean",
    "plot_before_after",
    "plot_depth",
    "plot_movie_responses",
    "plot_presence",
    "plot_unit_across_sessions",
    "plot_unit_gallery",
    "plot_unit_spikes",
]
