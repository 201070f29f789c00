"""Recordings of one field of view on several days."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyflow._help import short_repr
from pyflow.simulate.movement import Conditions, bending, margin_of, motion_of
from pyflow.simulate.recording import SimulatedRecording, record
from pyflow.simulate.scene import Scene
from pyflow.simulate.truth import invert


@short_repr
@dataclass(frozen=True)
class SimulatedSession:
    """Several recordings of one field of view.

    Attributes
    ----------
    recordings : tuple of SimulatedRecording
    names : tuple of str
        ``day1``, ``day2`` ...
    center : int
        The recording whose frame the others are aligned to.
    between_px : ndarray, shape (N, H, W, 2), float32
        True backward displacement of each recording's scene at rest into the centre's, in pixels.
    """

    recordings: tuple[SimulatedRecording, ...]
    names: tuple[str, ...]
    center: int
    between_px: np.ndarray

    def save(self, folder: str | Path) -> None:
        """Write every recording (see `SimulatedRecording.save`) into a folder, the truth below ``truth``.

        Raises
        ------
        OSError
            A file cannot be written.
        """
        folder = Path(folder)
        truth = folder / "truth"
        truth.mkdir(parents=True, exist_ok=True)
        for name, recording in zip(self.names, self.recordings, strict=True):
            recording.save(truth / name)
            (truth / f"{name}.tif").replace(folder / f"{name}.tif")
        np.savez(truth / "session.npz", between_px=self.between_px, center=self.center, names=self.names)

    @classmethod
    def load(cls, folder: str | Path) -> "SimulatedSession":
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            There is no such session.
        """
        folder = Path(folder)
        with np.load(folder / "truth" / "session.npz", allow_pickle=False) as session:
            names, center, between = session["names"].tolist(), int(session["center"]), session["between_px"]
        recordings = (
            SimulatedRecording.from_files(folder / f"{name}.tif", folder / "truth" / f"{name}.npz") for name in names
        )
        return cls(tuple(recordings), tuple(names), center, between)


def simulate_session(
    n_recordings: int = 3,
    shape: tuple[int, int] = (256, 256),
    n_frames: int = 60,
    *,
    offset_px: float = 8.0,
    deformation_px: float = 1.5,
    turnover: float = 0.15,
    seed: int = 0,
    **conditions: Any,
) -> SimulatedSession:
    """Simulate several recordings of one field of view.

    Parameters
    ----------
    n_recordings : int
        How many there are.
    shape, n_frames, **conditions
        Of each recording, see `Conditions`.
    offset_px, deformation_px : float
        Largest shift of the field of view against the centre's, and of its smooth change beyond that, in pixels.
    turnover : float
        Share of the cells that is missing from each recording.
    seed : int
        Same seed, same session.

    Returns
    -------
    SimulatedSession
        The middle recording is the centre.

    Raises
    ------
    ValueError
        A size or amount is negative, or the frame smaller than 32 x 32.
    TypeError
        There is no such condition.
    """
    taken = Conditions(shape, n_frames, **conditions)
    if n_recordings < 1 or offset_px < 0 or deformation_px < 0 or not 0 <= turnover < 1:
        raise ValueError(
            f"n_recordings {n_recordings}, offset_px {offset_px}, deformation_px {deformation_px}, "
            f"turnover {turnover}: "
            "expected at least 1, not negative, not negative, and within [0, 1)"
        )
    rng = np.random.default_rng(seed)
    scene = Scene(shape, margin_of(taken, offset_px + deformation_px), rng)
    center = n_recordings // 2
    recordings, between = [], []
    for number in range(n_recordings):
        shift = np.zeros((*shape, 2), np.float32)
        if number != center:
            shift += rng.uniform(-offset_px, offset_px, 2)
            shift += bending(shape, 1, deformation_px, rng)[0]
        present = np.flatnonzero(rng.random(len(scene.patches)) >= turnover)
        motion = motion_of(taken, rng)
        recordings.append(record(scene, shift, present, motion, taken, rng.uniform(0.8, 1.25), rng))
        between.append(invert(shift))
    names = tuple(f"day{number + 1}" for number in range(n_recordings))
    return SimulatedSession(tuple(recordings), names, center, np.stack(between))
