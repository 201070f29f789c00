"""A disk that fills up while a session runs: named errors, no claims left, the other recordings are tried."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from pyflow.session.artifacts import create_json, save_json

_FLOW = '[flow_options]\nquality_setting = "fast"\niterations = 5\nbuffer_size = 4\nreference_frames = "0:4"\n'


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that mounts a file system of so many KiB at a folder, or gives the mounted one another size."""
    folder = None

    def mount(size, at=None):
        nonlocal folder
        folder = at or folder
        folder.mkdir(parents=True, exist_ok=True)
        options = f"size={size}k" if not os.path.ismount(folder) else f"remount,size={size}k"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.name != "posix" or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("file systems cannot be mounted here")
        return folder

    yield mount
    if folder is not None and os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


def run(config, *arguments):
    command = [sys.executable, "-P", "-X", "faulthandler", "-m", "pyflow.session.cli", config, *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=os.environ | {
        "COLUMNS": "500"})  # fmt: skip


def test_other_recordings_go_on_when_one_does_not_fit(tmp_path, write_recordings, small_disk):
    write_recordings(tmp_path / "data", shifts={"a": (0.0, 0.0), "c": (1.0, 1.0)})
    long = np.concatenate([tifffile.imread(tmp_path / "data" / "a.tif")] * 10)
    tifffile.imwrite(tmp_path / "data" / "b.tif", long)
    disk = small_disk(400, tmp_path / "out" / "b")
    (tmp_path / "session.toml").write_text(
        f'root = "data"\noutput_root = "{tmp_path}/out"\nfinal_results = "{tmp_path}/final"\ncenter = "a"\n{_FLOW}'
    )
    done = run(tmp_path / "session.toml")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert f"could not write {disk}/" in said
    assert "No space left on device: " in said
    assert "Traceback" not in said
    assert sorted(path.parent.name for path in (tmp_path / "out").rglob("compensated.hdf5")) == ["a", "c"]
    assert [path for path in (tmp_path / "out").rglob("*") if "claim" in path.name] == []
    small_disk(4000)
    done = run(tmp_path / "session.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (disk / "compensated.hdf5").exists()


@pytest.mark.parametrize("output_format", ["TIFF", "HDF5"])
def test_aligned_videos_that_do_not_fit_are_named(tmp_path, write_recordings, small_disk, output_format):
    write_recordings(tmp_path / "data", n_frames=30)
    disk = small_disk(4000, tmp_path / "disk")
    (tmp_path / "session.toml").write_text(
        f'root = "data"\noutput_root = "out"\nfinal_results = "{disk}/final"\n'
        f'align_output_format = "{output_format}"\n{_FLOW}'
    )
    for stage in "12":
        done = run(tmp_path / "session.toml", "--stage", stage)
        assert done.returncode == 0, done.stdout + done.stderr
    used = sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())
    small_disk(used // 1024 + 120)
    done = run(tmp_path / "session.toml", "--stage", "3")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert f"could not write {disk}/final/aligned_rec" in said
    assert "bytes to write" in said
    assert "Traceback" not in said
    assert list(disk.rglob("aligned_*")) == []
    assert list(disk.rglob(".partial-*")) == []


def test_a_disk_that_cannot_be_written_is_named_by_the_files_it_should_have(tmp_path, small_disk):
    disk = small_disk(400, tmp_path / "disk")
    if subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    for write in (save_json, create_json):
        with pytest.raises(OSError, match=r"could not write .*/disk/small\.json: Read-only") as caught:
            write(disk / "small.json", 1)
        assert ".temporary-" not in str(caught.value)


@pytest.mark.parametrize("write", [save_json, create_json])
def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path, write):
    (tmp_path / "results").write_bytes(b"")
    with pytest.raises(OSError, match=r"could not write .*results/small\.json: File exists"):
        write(tmp_path / "results" / "small.json", 1)
