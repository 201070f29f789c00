"""A scene recorded through motion and noise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from pyflow._help import short_repr
from pyflow.simulate.movement import Conditions, margin_of, motion_of
from pyflow.simulate.scene import Scene, Tissue, transients
from pyflow.simulate.truth import invert


@short_repr
@dataclass(frozen=True)
class SimulatedRecording:
    """A recording and its truth.

    Attributes
    ----------
    movie : ndarray, shape (T, H, W), uint16
        What the detector gave.
    displacement_px : ndarray, shape (T, H, W, 2), float32
        True backward displacement of every frame onto the scene at rest, in pixels.
    template : ndarray, shape (H, W), float32
        The scene at rest, without noise and transients, in the movie's grey values.
    masks : ndarray, shape (N, H, W), bool
        Somata, at rest.
    cell_ids : ndarray, shape (N,), int
        Which cell of the field of view each is; the same in every recording of a session.
    traces : ndarray, shape (N, T), float32
        Relative fluorescence change dF/F of each.
    """

    movie: np.ndarray
    displacement_px: np.ndarray
    template: np.ndarray
    masks: np.ndarray
    cell_ids: np.ndarray
    traces: np.ndarray

    def save(self, path: str | Path) -> None:
        """Write the movie as ``<path>.tif`` and the truth as ``<path>.npz``, folders included.

        Raises
        ------
        OSError
            A file cannot be written.
        """
        from pyflow.io import get_video_file_writer

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with get_video_file_writer(path.with_name(f"{path.name}.tif"), "TIFF") as writer:
            writer.write_frames(self.movie)
        truth = {name: value for name, value in vars(self).items() if name != "movie"}
        np.savez(path.with_name(f"{path.name}.npz"), **truth)

    @classmethod
    def load(cls, path: str | Path) -> "SimulatedRecording":
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            There is no such recording.
        """
        path = Path(path)
        return cls.from_files(path.with_name(f"{path.name}.tif"), path.with_name(f"{path.name}.npz"))

    @classmethod
    def from_files(cls, movie: Path, truth: Path) -> "SimulatedRecording":
        """Read a movie (.tif) and the truth about it (.npz), as `save` wrote them; see `load`."""
        from pyflow.io import open_video

        with open_video(movie) as reader, np.load(truth, allow_pickle=False) as known:
            return cls(movie=reader[..., 0], **known)


def simulate_recording(
    shape: tuple[int, int] = (256, 256), n_frames: int = 100, *, seed: int = 0, **conditions: Any
) -> SimulatedRecording:
    """Simulate one recording.

    Parameters
    ----------
    shape, n_frames, **conditions
        See `Conditions`.
    seed : int
        Same seed, same recording.

    Returns
    -------
    SimulatedRecording

    Raises
    ------
    ValueError
        A size or amount is negative, or the frame smaller than 32 x 32.
    TypeError
        There is no such condition.
    """
    taken = Conditions(shape, n_frames, **conditions)
    rng = np.random.default_rng(seed)
    scene = Scene(shape, margin_of(taken), rng)
    motion = motion_of(taken, rng)
    still = np.zeros((*shape, 2), np.float32)
    return record(scene, still, np.arange(len(scene.patches)), motion, taken, 1.0, rng)


def record(
    scene: Scene,
    shift: np.ndarray,
    present: np.ndarray,
    motion: np.ndarray,
    conditions: Conditions,
    brightness: float,
    rng: np.random.Generator,
    tissue: "Tissue | None" = None,
    depth: np.ndarray | None = None,
) -> SimulatedRecording:
    """Record a scene that a day's `shift` has moved, through the frames' `motion` (T, H, W, 2) and `depth` (T,)."""
    gain, offset = 30.0, 200.0  # detector counts per photon, and without light
    resting = np.full(len(present), 1.0)

    def canvas(gains: np.ndarray, z: float | None) -> np.ndarray:
        return scene.at_rest(present, gains) if z is None else tissue.at(z, gains)

    rest = scene.sample(canvas(resting, None if depth is None else float(depth.mean())), shift)
    scale = brightness * conditions.photons / rest.mean()
    traces = transients(len(present), len(motion), conditions.frame_rate_hz, rng)
    movie = np.empty((len(motion), *scene.shape), np.uint16)
    truth = np.empty((*movie.shape, 2), np.float32)
    for t, moved in enumerate(motion):
        total = moved + _at(shift, moved)
        light = scale * scene.sample(canvas(resting + traces[:, t], None if depth is None else depth[t]), total)
        counts = rng.poisson(np.maximum(light, 0)) + rng.normal(0, conditions.read_noise, light.shape)
        movie[t] = np.clip(np.rint(gain * counts + offset), 0, 65535)
        truth[t] = invert(moved)
    masks = []
    for number in present:
        soma = np.zeros(scene.still.shape, np.float32)
        place, _, inside = scene.patches[number]
        soma[place] = inside
        masks.append(scene.sample(soma, shift, order=1) > 0.5)
    masks = np.stack(masks) if masks else np.zeros((0, *scene.shape), bool)
    seen = masks.any(axis=(1, 2))
    template = (gain * scale * rest + offset).astype(np.float32)
    return SimulatedRecording(movie, truth, template, masks[seen], present[seen], traces[seen])


def _at(field: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """A field (H, W, 2) looked up at every pixel plus `moved`."""
    if not field.any():
        return field
    rows, columns = np.mgrid[: field.shape[0], : field.shape[1]]
    at = (rows + moved[..., 1], columns + moved[..., 0])
    parts = [ndimage.map_coordinates(field[..., axis], at, order=1, mode="nearest") for axis in (0, 1)]
    return np.stack(parts, axis=-1)
