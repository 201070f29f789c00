"""What happens when the disk is full: a named error, never a crash, and the next file is written."""

import errno
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import scipy.io

from pyflow.io import get_video_file_writer, open_video
from pyflow.io.atomic import replacing

# Sizes of the disk in KiB: the writer below fails in its first frame, between batches, in a flush, on closing.
SIZES = [20, 60, 100, 212, 216, 220, 228, 256, 300, 420, 508, 512, 516, 640]

_WRITE = """
import sys, numpy as np
from pyflow.io import get_video_file_writer
path, options = sys.argv[1], eval(sys.argv[2])
frames = np.random.default_rng(0).integers(0, 60000, (5, 64, 64, 2)).astype(np.uint16)
try:
    with get_video_file_writer(path, **options) as writer:
        for _ in range(40):
            writer.write_frames(frames)
            writer.flush()
except OSError as error:
    print(error)
    sys.exit(3)
"""

_COMPENSATE = """
import sys, numpy as np
from pyflow import OFOptions, compensate_recording
folder, movie = sys.argv[1:]
options = OFOptions(input_file=movie, output_path=folder, quality_setting="fast", buffer_size=5, save_w=True)
try:
    compensate_recording(options)
except OSError as error:
    print(error)
    sys.exit(3)
"""


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that mounts a file system of so many KiB at a folder."""
    mounted = []

    def mount(size):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
        if os.name != "posix" or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("file systems cannot be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", "-c", script, *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.h5", {}),
        ("a.h5", {"resume_at": 0}),
        ("a.h5", {"compression": "gzip"}),
        ("a.tif", {}),
        ("a.mat", {}),
        ("a.mat", {"output_format": "MAT7"}),
        ("a.zarr", {}),
    ],
    ids=["HDF5", "HDF5 kept", "HDF5 gzip", "TIFF", "MAT", "MAT7", "Zarr"],
)
def test_a_full_disk_is_an_error_with_the_path(small_disk, name, options):
    for size in SIZES[::5] if name == "a.zarr" else SIZES:  # the package takes long to start
        path = small_disk(size) / name
        done = run(_WRITE, path, options)
        assert (done.returncode, done.stderr) == (3, ""), (size, done.stderr)
        assert f"could not write {path}: No space left on device: " in done.stdout
        assert "bytes to write, " in done.stdout
        assert [file.name for file in path.parent.iterdir() if "resume_at" not in options] == []


def test_a_recording_on_a_full_disk_fails_by_name(small_disk, tmp_path):
    movie = np.random.default_rng(0).integers(0, 1000, (20, 64, 64)).astype(np.uint16)
    with get_video_file_writer(tmp_path / "movie.tif") as writer:
        writer.write_frames(movie)
    for size in (40, 120, 200, 330, 460, 600, 720, 860):
        folder = small_disk(size)
        done = run(_COMPENSATE, folder, tmp_path / "movie.tif")
        assert (done.returncode, done.stderr) == (3, ""), (size, done.stderr)
        assert f"could not write {folder}" in done.stdout
        assert not (folder / "compensated.hdf5").exists()


def test_a_file_larger_than_files_may_be_is_an_error_with_the_path(tmp_path):
    pytest.importorskip("resource")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    for name in ("a.h5", "a.tif"):
        done = run(limit + _WRITE, tmp_path / name, {})
        assert (done.returncode, done.stderr) == (3, "")
        assert f"could not write {tmp_path / name}: File too large: " in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("size", [100, 216, 420, 512])
def test_what_was_on_the_full_disk_is_gone_on_with(small_disk, compression, size):
    frames = np.random.default_rng(0).integers(0, 60000, (100, 64, 64, 2)).astype(np.uint16)
    folder, flushed = small_disk(size), 0
    options = {"compression": compression, "resume_at": 0}
    with pytest.raises(OSError, match="No space left"), get_video_file_writer(folder / "a.h5", **options) as writer:
        for first in range(0, 100, 5):
            writer.write_frames(frames[first : first + 5])
            writer.flush()
            flushed = writer.frames_written
    assert flushed
    subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
    with get_video_file_writer(folder / "a.h5", compression=compression, resume_at=flushed) as writer:
        writer.write_frames(frames[flushed:])
    with open_video(folder / "a.h5") as reader:
        np.testing.assert_array_equal(reader[:], frames)


@pytest.mark.parametrize("name", ["a.h5", "a.tif"])
def test_a_writer_that_failed_can_be_closed(small_disk, name):
    folder = small_disk(100)
    (folder / name).write_text("earlier result")
    writer = get_video_file_writer(folder / name)
    frames = np.zeros((30, 64, 64), np.uint16)
    with pytest.raises(OSError, match=r"\d{5,} bytes to write, \d+ bytes free"):
        writer.write_frames(frames)
    for again in (lambda: writer.write_frames(frames[:1]), writer.flush, writer.close):
        with pytest.raises(OSError, match="No space left") as caught:
            again()
        assert caught.value.errno == errno.ENOSPC
    writer.close()
    assert (folder / name).read_text() == "earlier result"
    assert [path.name for path in folder.iterdir()] == [name]
    with get_video_file_writer(folder / name) as later:
        later.write_frames(frames[:5])


_VALUES = np.random.default_rng(0).random((40, 100))
_SMALL_FILES = {
    "npy": lambda file: np.save(file, _VALUES),
    "npz": lambda file: np.savez(file, a=_VALUES[:10], b=_VALUES),
    "compressed npz": lambda file: np.savez_compressed(file, a=_VALUES[:10], b=_VALUES),
    "mat": lambda file: scipy.io.savemat(file, {"a": _VALUES[:10], "b": _VALUES}),
    "text": lambda file: file.write(b"x" * 33000),
}


@pytest.mark.parametrize("kind", _SMALL_FILES)
@pytest.mark.parametrize("size", [8, 12, 16, 20, 28])
def test_small_files_on_a_full_disk_are_errors_with_the_path(small_disk, kind, size):
    path = small_disk(size) / "result"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match=rf"could not write {path}: .*\d bytes free"):
        with replacing(path) as temporary, open(temporary, "wb") as file:
            _SMALL_FILES[kind](file)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_frames_that_never_reached_the_disk_are_not_gone_on_from(tmp_path):
    with h5py.File(tmp_path / ".partial-a.h5", "w") as file:
        file.create_dataset("ch1", (8, 4, 5), np.uint16, maxshape=(None, 4, 5), chunks=(1, 4, 5))[:6] = 1
    with pytest.raises(ValueError, match="6 frames stored in ch1, expected 7"):
        get_video_file_writer(tmp_path / "a.h5", resume_at=7)


@pytest.mark.parametrize("size", [20, 40, 80])
def test_an_hdf5_file_that_is_changed_on_a_full_disk(small_disk, size):
    script = """
import sys, h5py, numpy as np
from pathlib import Path
from pyflow.io.atomic import replacing
from pyflow.io.output import OutputFile
path = Path(sys.argv[1])
try:
    with replacing(path) as temporary:
        temporary.write_bytes(path.read_bytes())
        with OutputFile(temporary, path, "r+") as target, h5py.File(target, "r+") as file:
            for number in range(100):
                file[f"a{number}"] = np.zeros(100)
except OSError as error:
    print(error)
    sys.exit(3)
"""
    path = small_disk(size) / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = 1
    done = run(script, path)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith(f"[Errno 28] could not write {path}: No space left on device: ")
    with h5py.File(path) as file:
        assert list(file) == ["a"]
