"""Small sessions to run."""

import gc
import os
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, shift

from pyflow.session import SessionConfig, run_session

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


@pytest.fixture(autouse=True)
def _reports_where_they_are_looked_at(request, monkeypatch):
    """Drawing takes longer than these small sessions do."""
    if not request.module.__name__.endswith("test_report"):
        monkeypatch.setattr("pyflow.session.stage3_valid_mask.save_session_report", lambda *given, keep: None)


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


@pytest.fixture
def equals_a_local_run():
    """Return a function that computes a session anew, in this process with one thread, and compares the bits."""

    def compare(config: SessionConfig) -> None:
        found = contents(config)
        clean = config.replace(output_root="clean", final_results="clean_results", n_workers=1, scheduler="local")
        run_session(clean)
        folders = (config.output_root, config.final_results)
        ours = [folder.relative_to(config.root).as_posix() for folder in folders]
        rename = dict(zip(("clean", "clean_results"), ours, strict=True))
        for name, array in contents(clean).items():
            if "paths" not in name:
                folder, rest = name.split("/", 1)
                np.testing.assert_array_equal(found[f"{rename[folder]}/{rest}"], array, err_msg=name)

    return compare


# The first run of a recording takes its time; what is killed then goes on from its last batch.
_SLOW = """\
import os
import time
import pyflow.session.dask
import pyflow.session.stage1_compensate as stage1
real = stage1.compensate_recording
def compensate_recording(options, progress=None, **more):
    first = []
    def watch(done, total):
        first or first.append(done)
        with open(os.environ["FRAMES"], "a") as file:
            file.write(f"{os.getpid()} {done}\\n")
        if done >= 6 and os.path.exists(os.environ["SLOW"]):
            time.sleep(0.3)
        progress(done, total)
    return real(options, progress=watch, **more)
stage1.compensate_recording = compensate_recording
"""


@pytest.fixture
def frames(tmp_path, monkeypatch):
    """Let workers take their time and note which process got how far; return what reads the notes."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(_SLOW)
    for name in ("FRAMES", "SLOW"):
        (tmp_path / name).touch()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "slow"), *(path for path in sys.path if path)]))

    def read():
        lines = [line.split() for line in (tmp_path / "FRAMES").read_text().splitlines()]
        return [(int(pid), int(done)) for pid, done in lines]

    return read


@pytest.fixture
def session(config):
    """A small session's file."""
    path = config.root / "session.toml"
    path.write_text(
        'root = "."\nsigma_smooth = 1.5\niterations_between = 20\n\n[flow_options]\n'
        'quality_setting = "fast"\niterations = 5\nbuffer_size = 4\nreference_frames = "0:4"\n'
    )
    return path


def _collect_garbage():
    """Let go of connections that Dask did not close, before a test that has nothing to do with it is blamed."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


dask_garbage = pytest.fixture(_collect_garbage, name="dask_garbage")
dask_garbage_of_module = pytest.fixture(_collect_garbage, name="dask_garbage_of_module", scope="module")
