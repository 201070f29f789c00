"""A sorted unit's spikes in all its sessions: times, waveform, depth, rate and autocorrelogram."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pyflow.units.sources.base import SourceError
from pyflow.units.sources.spikes import SpikeSource, Waveform, find_spikes

SPAN = ("span_start", "span_end")
"""Attributes of a session that is a part of a longer recording: its first sample, and the first one after it."""


@dataclass(frozen=True)
class SpikeTrain:
    """One unit's spikes in one session.

    Attributes
    ----------
    times_s : ndarray, shape (n,), float64
        From the session's start, ascending.
    duration_s : float
        Length of the session; where its source does not know it, up to the last spike of all units.
    waveform : Waveform or None
        None where the source keeps none.
    depth_um : float
        Along the probe; NaN where the source does not know it.
    """

    times_s: np.ndarray
    duration_s: float
    waveform: Waveform | None
    depth_um: float

    @property
    def rate_hz(self) -> float:
        """Spikes per second."""
        return len(self.times_s) / self.duration_s if self.duration_s else 0.0

    def rate(self, bin_s: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Firing rate over time.

        Parameters
        ----------
        bin_s : float
            Width of a bin, seconds; the last may reach beyond the session's end.

        Returns
        -------
        starts_s : ndarray, shape (n,)
            Start of each bin.
        rate_hz : ndarray, shape (n,)
        """
        n = max(1, int(np.ceil(self.duration_s / bin_s)))
        place = np.minimum((self.times_s / bin_s).astype(int), n - 1)
        return np.arange(n) * bin_s, np.bincount(place, minlength=n) / bin_s

    def autocorrelogram(self, *, bin_s: float = 0.001, window_s: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
        """`autocorrelogram` of the times."""
        return autocorrelogram(self.times_s, bin_s=bin_s, window_s=window_s)


def autocorrelogram(
    times_s: ArrayLike, *, bin_s: float = 0.001, window_s: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Rate of a unit's other spikes around each of its spikes.

    Parameters
    ----------
    times_s : (n,) array
        Ascending, seconds.
    bin_s, window_s : float
        Width of a bin and largest lag, seconds.

    Returns
    -------
    lags_s : ndarray, shape (2 N,)
        Middle of each bin.
    rate_hz : ndarray, shape (2 N,)
        Symmetric.
    """
    times = np.asarray(times_s, dtype=np.float64)
    n_bins = round(window_s / bin_s)
    counts = np.zeros(n_bins, dtype=np.int64)
    for step in range(1, len(times)):
        lags = times[step:] - times[:-step]
        near = lags[lags < n_bins * bin_s]
        if not len(near):
            break
        counts += np.bincount((near / bin_s).astype(int), minlength=n_bins)[:n_bins]
    rate = counts / (max(1, len(times)) * bin_s)
    middle = (np.arange(n_bins) + 0.5) * bin_s
    return np.concatenate([-middle[::-1], middle]), np.concatenate([rate[::-1], rate])


def spike_trains(
    sessions: pd.DataFrame, members: pd.DataFrame, folder: Path, missing: str = "raise"
) -> dict[str, SpikeTrain | None]:
    """One cell's spikes in all sessions.

    Parameters
    ----------
    sessions : DataFrame
        `UnitStore.sessions()`.
    members : DataFrame
        `UnitStore.members(cell)`.
    folder : Path
        Where relative sources start from.
    missing : {"raise", "none"}
        What to do where the cell is absent: refuse, or give None.

    Returns
    -------
    dict of str to SpikeTrain or None
        By session.

    Raises
    ------
    ValueError
        Some session lacks the cell and `missing` is ``"raise"``.
    SourceError
        A session names no source, or that holds no sorted units.
    """
    if missing not in ("raise", "none"):
        raise ValueError(f"missing is {missing!r}, expected 'raise' or 'none'")
    of_session = {member.session: member for member in members.itertuples()}
    absent = [repr(name) for name in sessions["name"] if name not in of_session]
    if absent and missing == "raise":
        number = members["number"].iloc[0]
        raise ValueError(f"cell {number} is absent in {', '.join(absent)}; missing='none' gives None there")
    return {
        session["name"]: _train(_open(session, member, folder), member) if member else None
        for session in sessions.to_dict("records")
        for member in [of_session.get(session["name"])]
    }


def _open(session, member, folder):
    name = session["name"]
    if not member.source:
        raise SourceError(f"session {name!r} has no source in the unit store")
    path, span = folder / member.source, [session.get(attribute) for attribute in SPAN]
    span = None if any(pd.isna(sample) for sample in span) else (int(span[0]), int(span[1]))
    source = find_spikes(path, member.group, span)
    if source is None:
        raise SourceError(
            f"session {name!r}: {path} holds no sorted units; expected a folder of phy, Kilosort or SpikeInterface, or "
            "an NWB file with a table of units"
        )
    return source


def _train(source: SpikeSource, member) -> SpikeTrain:
    row = source.row(member.unit)
    return SpikeTrain(source.spike_times_s(row), source.duration_s, source.waveform(row), source.depth_um(row))
