"""What a killed writer left is given the bytes of its last snapshot, before HDF5 sees any of them."""

import shutil

import h5py
import numpy as np
import pytest

from pyflow.io import get_video_file_writer, open_video
from pyflow.io.output import OutputFile

FRAMES = np.random.default_rng(0).integers(0, 60000, (90, 40, 44)).astype(np.uint16)


@pytest.fixture(params=[None, "gzip"])
def killed(tmp_path, request):
    """Snapshots, by the frames before them, and copies of the file as kills at different moments leave it."""
    path, options = tmp_path / "a.h5", {"compression": request.param, "resume_at": 0}
    snapshots, copies = {}, []

    def kill(n_frames):
        copies.append((tmp_path / f"copy{len(copies)}", n_frames))
        shutil.copy(tmp_path / ".partial-a.h5", copies[-1][0])

    with pytest.raises(KeyboardInterrupt), get_video_file_writer(path, **options) as writer:
        for n_frames in (5, 47, 83):
            writer.write_frames(FRAMES[writer.frames_written : n_frames])
            writer.flush()
            if snapshots:
                kill(max(snapshots))  # HDF5 has written over bytes of the snapshot
            snapshots[n_frames] = writer.snapshot()
            kill(n_frames)
            writer.settle()
            kill(n_frames)
        writer.write_frames(FRAMES[83:])
        raise KeyboardInterrupt
    kill(83)
    return path, options, snapshots, copies


def test_it_goes_on_from_the_snapshot_whenever_it_was_killed(killed):
    path, options, snapshots, copies = killed
    for copy, n_frames in copies:
        shutil.copy(copy, path.with_name(".partial-a.h5"))
        options |= {"resume_at": n_frames, "snapshot": snapshots[n_frames]}
        with get_video_file_writer(path, **options) as writer:
            writer.write_frames(FRAMES[n_frames:])
        with open_video(path) as reader:
            np.testing.assert_array_equal(reader[..., 0], FRAMES)
        path.unlink()


def test_no_byte_of_a_damaged_file_is_shown_to_hdf5(killed, monkeypatch):
    path, options, snapshots, copies = killed
    copy, n_frames = copies[-1]
    options |= {"resume_at": n_frames, "snapshot": snapshots[n_frames]}
    content, size = copy.read_bytes(), int(snapshots[n_frames]["size"])
    monkeypatch.setattr(h5py, "File", lambda *arguments: pytest.fail("HDF5 was asked"))
    rng = np.random.default_rng(1)
    for place in (4, 50, 200, 900, size - 1, *rng.integers(0, size, 20)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        if any(at <= place < at + n for at, n in snapshots[n_frames]["places"]):
            continue  # of these the snapshot knows what they were
        path.with_name(".partial-a.h5").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"\.partial-a\.h5 is not as it was written"):
            get_video_file_writer(path, **options)
    path.with_name(".partial-a.h5").write_bytes(content[: size - 1])
    with pytest.raises(ValueError, match=rf"found {size - 1} bytes, expected {size}"):
        get_video_file_writer(path, **options)


def test_what_is_held_back_is_read_back(tmp_path):
    """Reads find what was written, before and after the bytes on the disk follow."""
    rng, size = np.random.default_rng(0), 3 << 20
    expected = np.zeros(size, np.uint8)
    with OutputFile(tmp_path / "a", tmp_path / "a") as file:
        for step in range(60):
            first = int(rng.integers(0, size - 1)) if step else 0
            data = rng.integers(0, 256, min(int(rng.integers(1, 1 << 20)), size - first) if step else size, np.uint8)
            file.seek(first)
            file.write(data.tobytes())
            expected[first : first + len(data)] = data
            if step % 7 == 0:
                file.settle()
                settled = expected.tobytes()
            file.seek(0)
            assert file.read(size) == expected.tobytes()
            assert (tmp_path / "a").read_bytes() == settled
        file.settle()
    assert (tmp_path / "a").read_bytes() == expected.tobytes()
