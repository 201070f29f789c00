"""What we write in TIFF, opened by ImageJ itself."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

import pyflow.io.writers.tiff
from pyflow.io import get_video_file_writer, open_video

JAVA, IMAGEJ = shutil.which("java"), Path("/usr/share/java/ij.jar")
OPEN = Path(__file__).with_name("imagej") / "Open.java"

pytestmark = pytest.mark.skipif(
    JAVA is None or not IMAGEJ.is_file(), reason="IMAGEJ IS MISSING: apt-get install imagej default-jdk-headless"
)


def opened(*paths):
    """Sizes (T, Z, C, H, W) and frame interval of each file, and its values (pages, H, W)."""
    command = [JAVA, "-Djava.awt.headless=true", "-cp", IMAGEJ, OPEN, *paths]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    for path, line in zip(paths, done.stdout.splitlines(), strict=True):
        *shape, interval = line.split()
        shape = tuple(map(int, shape))
        values = np.fromfile(f"{path}.values", ">f4").reshape(-1, *shape[-2:])
        yield shape, float(interval), values


def test_imagej_opens_what_we_write(tmp_path, monkeypatch):
    """One start of Java for all: types, channels, a single frame, a file too large for a second directory."""
    rng = np.random.default_rng(0)
    cases = []
    for number, (dtype, shape, interval, too_large) in enumerate(
        [
            ("u2", (5, 6, 7, 1), 0.05, False),
            ("u1", (4, 5, 3, 2), None, False),
            ("i2", (3, 6, 9, 1), 1 / 30, False),
            ("f4", (3, 6, 9, 3), 2.0, False),
            (">u2", (2, 3, 11, 2), None, False),
            ("u2", (6, 6, 7, 2), 0.1, True),
            ("i2", (6, 5, 7, 1), 0.1, True),
            ("u2", (1, 6, 7, 1), None, False),
        ]
    ):
        signed = np.dtype(dtype).kind != "u"
        frames = rng.integers(-300 * signed, 250, shape).astype(dtype)
        path = tmp_path / f"{number}.tif"
        monkeypatch.setattr(pyflow.io.writers.tiff, "_CLASSIC_BYTES", 4100 if too_large else 1 << 32)
        with get_video_file_writer(path, frame_rate_hz=interval and 1 / interval) as writer:
            writer.write_frames(frames[:2])
            writer.write_frames(frames[2:])
        with tifffile.TiffFile(path) as file:
            assert len(file.pages) == (1 if too_large else shape[0] * shape[3])
        cases.append((path, frames, interval))
    for (path, frames, interval), (shape, found, values) in zip(
        cases, opened(*(case[0] for case in cases)), strict=True
    ):
        n_frames, height, width, n_channels = frames.shape
        assert shape == (n_frames, 1, n_channels, height, width), path
        assert found == pytest.approx(interval or 0), path
        np.testing.assert_array_equal(values, np.moveaxis(frames, -1, 1).reshape(-1, height, width), err_msg=path)
        with open_video(path) as reader:
            np.testing.assert_array_equal(reader[:], frames)
        expected = frames[..., 0] if n_channels == 1 else np.moveaxis(frames, -1, 1)
        np.testing.assert_array_equal(tifffile.imread(path).reshape(expected.shape), expected)
