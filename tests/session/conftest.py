"""Small sessions to run."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, shift

from pyflow.session import SessionConfig

SHAPE = (48, 56)
SHIFTS = {"rec1": (2.0, -3.0), "rec2": (0.0, 0.0), "rec10": (-1.5, 1.25)}  # (rows, cols) of the content


def scene(shape=SHAPE, seed=0):
    image = gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return (image - image.min()) / np.ptp(image) * 4000 + 100


def movie(image, n_frames, seed):
    """Noisy frames of an image that trembles by up to a pixel."""
    rng = np.random.default_rng(seed)
    moves = rng.uniform(-1, 1, (n_frames, 2))
    moves -= moves[:4].mean(axis=0)  # FAST takes the reference from these
    frames = [shift(image, move, mode="nearest") + rng.normal(0, 20, image.shape) for move in moves]
    return np.clip(frames, 0, 65535).astype(np.uint16)


def write_recordings(root: Path, n_frames=6, shifts=SHIFTS) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for seed, (name, move) in enumerate(shifts.items()):
        tifffile.imwrite(root / f"{name}.tif", movie(shift(scene(), move, mode="nearest"), n_frames, seed))


FAST = {"quality_setting": "fast", "iterations": 5, "buffer_size": 4, "reference_frames": "0:4"}


@pytest.fixture
def config(tmp_path) -> SessionConfig:
    write_recordings(tmp_path / "data")
    return SessionConfig(
        root=tmp_path / "data", sigma_smooth=1.5, iterations_between=20, flow_options=FAST, n_workers=1
    )


@pytest.fixture
def shifts():
    return SHIFTS


@pytest.fixture(name="write_recordings")
def _write_recordings():
    return write_recordings


@pytest.fixture(name="contents")
def _contents():
    return contents


def contents(config: SessionConfig) -> dict[str, np.ndarray]:
    """All arrays of a session's results, by file and name."""
    arrays = {}
    for folder in (config.output_root, config.final_results):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(config.root).as_posix()
            if path.suffix == ".npy":
                arrays[name] = np.load(path)
            elif path.suffix == ".npz":
                with np.load(path) as data:
                    arrays.update({f"{name}/{key}": data[key] for key in data})
            elif path.suffix in (".hdf5", ".hdf", ".h5"):
                with h5py.File(path) as file:
                    arrays.update({f"{name}/{key}": file[key][:] for key in file})
            elif path.suffix == ".tif":
                arrays[name] = tifffile.imread(path)
    return arrays
