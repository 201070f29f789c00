"""What an animal was shown and when, as Allen Brain Observatory files keep it."""

from typing import Any

import h5py
import numpy as np
import pandas as pd

from pyflow.units.sources.base import SourceError, dataset, text

SPONTANEOUS = "spontaneous"

# The protocols of the Allen Brain Observatory (white paper on visual coding, stimulus set).
_OF_SESSION_TYPE = {
    "three_session_A": ("drifting_gratings", "natural_movie_one", "natural_movie_three", SPONTANEOUS),
    "three_session_B": ("static_gratings", "natural_scenes", "natural_movie_one", SPONTANEOUS),
    "three_session_C": ("locally_sparse_noise", "natural_movie_one", "natural_movie_two", SPONTANEOUS),
    "three_session_C2": (
        *("locally_sparse_noise_4deg", "locally_sparse_noise_8deg"),
        *("natural_movie_one", "natural_movie_two", SPONTANEOUS),
    ),
}
# Frames without a stimulus that do not end its epoch: a drifting grating pauses for 30 frames, other stimuli only where
# the camera or the monitor dropped some. AllenSDK's numbers, so that its epochs are found.
_PAUSE = {"three_session_A": 39, "three_session_B": 15, "three_session_C": 7, "three_session_C2": 7}
LONGEST_PAUSE = max(_PAUSE.values())

_PRESENTATION = "stimulus/presentation"

# Squares of locally sparse noise at each end of a row that lie outside the monitor, as it was warped: rows from the
# upper edge to the middle, by the shape of the images. AllenSDK's masks.
_OUTSIDE_MONITOR = {(16, 28): (4, 3, 2, 2, 2, 2, 2, 1), (8, 14): (2, 1, 1, 1)}
OFF_SCREEN = 64
"""Value of squares outside the monitor, as AllenSDK has it; those on it are 0, 127 or 255."""


def stimuli_of(session_type: str | None) -> list[str]:
    """Names of the stimuli of a session type, sorted; empty for types that are not the Allen Institute's."""
    return sorted(_OF_SESSION_TYPE.get(session_type, ()))


def names(file: h5py.File) -> list[str]:
    """Names of the stimuli in a file, sorted."""
    return [name.removesuffix("_stimulus") for name in file.get(_PRESENTATION, ())]


def table(file: h5py.File, name: str) -> pd.DataFrame:
    """When a stimulus was shown, a row per presentation; see `Source.stimulus_table`."""
    group = next((f"{_PRESENTATION}/{n}" for n in (f"{name}_stimulus", name) if f"{_PRESENTATION}/{n}" in file), None)
    if group is None:
        raise SourceError(f"{file.filename}: no stimulus {name!r}; it has {', '.join(names(file)) or 'none'}")
    data, span = dataset(file, f"{group}/data")[()], dataset(file, f"{group}/frame_duration", 2)[()]
    if len(data) != len(span):
        raise SourceError(f"{file.filename}: {group}/data has {len(data)} rows, frame_duration has {len(span)}")
    if name == SPONTANEOUS:
        events = data.ravel()
        first, last = span[events == 1, 0], span[events == -1, 0]
        if len(first) != len(last):
            raise SourceError(f"{file.filename}: {group}/data has {len(first)} starts (1) and {len(last)} ends (-1)")
        shown, span = pd.DataFrame(), np.stack([first, last], axis=1)
    else:
        columns = text(dataset(file, f"{group}/features", 1)) if "features" in file[group] else ["frame"]
        if data.size != len(data) * len(columns):
            raise SourceError(
                f"{file.filename}: {group}/data has shape {data.shape}, expected {len(columns)} columns: "
                f"{', '.join(columns)}"
            )
        shown = pd.DataFrame(data.reshape(-1, len(columns)), columns=columns)
    shown["start"], shown["end"] = span[:, 0].astype(int), span[:, 1].astype(int)
    shown = shown.sort_values(["start", "end"])
    if name.startswith("natural_movie"):
        shown["repeat"] = shown.groupby("frame").cumcount()
    return shown


def template(file: h5py.File, name: str) -> np.ndarray:
    """Images of a stimulus, (frame, y, x)."""
    place = f"stimulus/templates/{name}_image_stack"
    if place not in file:
        there = [found.removesuffix("_image_stack") for found in file.get("stimulus/templates", ())]
        raise SourceError(f"{file.filename}: no images of stimulus {name!r}; it has {', '.join(there) or 'none'}")
    return dataset(file, f"{place}/data", 3)[()]


def on_screen(shape: tuple[int, int]) -> np.ndarray | None:
    """Squares of an image of locally sparse noise that lie on the monitor, bool; None for shapes of other noise."""
    if shape not in _OUTSIDE_MONITOR:
        return None
    half, columns = np.array(_OUTSIDE_MONITOR[shape])[:, np.newaxis], np.arange(shape[1])
    upper = (columns >= half) & (columns < shape[1] - half)
    return np.concatenate([upper, upper[::-1]])


class StimulusSearch:
    """What was shown at a sample of the traces, as AllenSDK's `stimulus_search` answers it.

    Parameters
    ----------
    shown, epochs : DataFrame
        As `Source.stimulus_table` has them for ``"master"``, and `Source.stimulus_epochs`.
    """

    def __init__(self, shown: pd.DataFrame, epochs: pd.DataFrame) -> None:
        self._shown, self._epochs = shown.sort_values(["start", "end"], kind="stable"), epochs
        self._starts = self._shown["start"].to_numpy(np.float64)

    def search(self, fi: int) -> tuple[int, float, dict[str, Any]] | None:
        """The presentation at a sample; in a short pause of its epoch, the one before.

        Parameters
        ----------
        fi : int
            The sample, from 0.

        Returns
        -------
        (start, end, presentation) or None
            The presentation is a row of the table of all stimuli, as a dict; `end` is 0.01 before the row's, as with
            AllenSDK. None: nothing was shown. AllenSDK says so of the last sample of an epoch too.
        """
        place = int(np.searchsorted(self._starts, fi, side="right")) - 1
        if place < 0:
            return None
        row = self._shown.iloc[place].to_dict()
        epochs = self._epochs[self._epochs["stimulus"] == row["stimulus"]]
        if fi > row["end"] and not ((epochs["start"] <= fi) & (fi <= epochs["end"])).any():
            return None
        return row["start"], row["end"] - 0.01, row


def epochs(tables: dict[str, pd.DataFrame], session_type: str | None) -> pd.DataFrame:
    """Join presentations of one stimulus that follow each other; see `Source.stimulus_epochs`."""
    return join(tables, _PAUSE.get(session_type, LONGEST_PAUSE))


def join(tables: dict[str, pd.DataFrame], pause: int) -> pd.DataFrame:
    """Join presentations of one stimulus between which there are at most `pause` frames without it."""
    found = []
    for name, shown in tables.items():
        start, end = shown["start"].to_numpy(), shown["end"].to_numpy()
        cuts = np.flatnonzero(start[1:] - end[:-1] > pause)
        firsts, lasts = [0, *(cuts + 1)], [*cuts, len(start) - 1]
        found += [(name, int(start[a]), int(end[b])) for a, b in zip(firsts, lasts, strict=True) if len(start)]
    return pd.DataFrame(sorted(found, key=lambda epoch: epoch[1]), columns=["stimulus", "start", "end"])


def master(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Presentations of all stimuli in one table, with column `stimulus`; NaN where a stimulus lacks a column."""
    parts = [shown.assign(stimulus=name) for name, shown in tables.items() if len(shown)]
    empty = [] if parts else [pd.DataFrame(columns=["end", "start", "stimulus"])]
    return pd.concat(parts + empty, sort=True, ignore_index=True)
