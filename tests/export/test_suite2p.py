"""suite2p's binary, and suite2p's own detection on it."""

import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyflow.export import to_suite2p
from pyflow.export.source import AlignedSession
from pyflow.export.suite2p import largest_rectangle

PYTHON = os.environ.get("PYFLOW_HANDOVER_PYTHON")


def ops_of(path):
    return np.load(path, allow_pickle=True).item()


def movie_of(ops, name="reg_file"):
    return np.fromfile(ops[name], np.int16).reshape(ops["nframes"], ops["Ly"], ops["Lx"])


def expected_movie(results, channel=1):
    session = AlignedSession.open(results)
    return np.concatenate([frames for r in session.recordings for frames in session.frames(r, channel)])


def test_all_recordings_in_one_with_their_boundaries(finished, tmp_path):
    results = finished(keep_w=True)
    path = to_suite2p(results, tmp_path / "s2p", frame_rate=30)
    assert path == tmp_path / "s2p" / "suite2p" / "plane0" / "ops.npy"
    ops = ops_of(path)
    movie = movie_of(ops)
    np.testing.assert_array_equal(movie, expected_movie(results))
    assert ops["frames_per_folder"].tolist() == [30, 30]
    assert ops["pyflow"]["recordings"] == ["day1", "day2"]
    assert (ops["pyflow"]["scale"], ops["fs"], ops["nchannels"]) == (1.0, 30, 1)
    assert np.flatnonzero(ops["badframes"]).tolist() == [5, 35]
    np.testing.assert_allclose(ops["meanImg"], movie[~ops["badframes"]].mean(axis=0), rtol=1e-6)
    # the shift of the recording and that of the frame
    np.testing.assert_array_equal(ops["xoff"], np.concatenate([np.arange(30) % 4, np.arange(30) % 4 + 3]))
    np.testing.assert_array_equal(ops["yoff"], np.repeat([-1, -3], 30))
    valid = ops["pyflow"]["final_valid"]
    assert valid[slice(*ops["yrange"]), slice(*ops["xrange"])].all()
    later = ops_of(path.with_name("reg_outputs.npy"))
    assert later["yrange"] == ops["yrange"]
    assert later["yoff"].tolist() == ops["yoff"].tolist()


def test_the_mean_leaves_out_each_recordings_own_bad_frames(finished, tmp_path):
    results = finished()
    with h5py.File(tmp_path / "compensated_outputs/day2/idx.hdf", "r+") as file:
        masks = file["idx"][:]
        masks[5], masks[9:20] = 255, 0
        file["idx"][:] = masks
    ops = ops_of(to_suite2p(results, tmp_path, frame_rate=30))
    assert np.flatnonzero(ops["badframes"]).tolist() == [5, *range(39, 50)]
    np.testing.assert_allclose(ops["meanImg"], movie_of(ops)[~ops["badframes"]].mean(axis=0), rtol=1e-6)


def test_the_second_channel_goes_along(finished, tmp_path):
    results = finished(n_channels=2)
    ops = ops_of(to_suite2p(results, tmp_path, frame_rate=30, channel=2))
    assert ops["nchannels"] == 2
    np.testing.assert_array_equal(movie_of(ops), expected_movie(results, 2))
    np.testing.assert_array_equal(movie_of(ops, "reg_file_chan2"), expected_movie(results, 1))
    with pytest.raises(ValueError, match=r"channel 3: .*compensated.hdf5 has the channels 1 to 2"):
        to_suite2p(results, tmp_path, frame_rate=30, channel=3)


def test_the_frame_rate_is_what_the_recordings_tell(finished, tmp_path):
    results = finished()
    videos = sorted((tmp_path / "compensated_outputs").glob("*/compensated.hdf5"))
    for video, rate in zip(videos, (30.0, 20.0), strict=True):
        with h5py.File(video, "r+") as file:
            file.attrs["frame_rate_hz"] = rate
    with pytest.raises(ValueError, match=r"do not tell the frames per second \(day1: 30.0, day2: 20.0\); give it"):
        to_suite2p(results, tmp_path)
    with h5py.File(videos[1], "r+") as file:
        file.attrs["frame_rate_hz"] = 30.0
    assert ops_of(to_suite2p(results, tmp_path))["fs"] == 30


@pytest.mark.parametrize(
    ("dtype", "gain"), [(np.uint16, 100), (np.float32, 1e-3), (np.float32, 40), (np.int32, 1), (np.uint8, 0.2)]
)
def test_values_that_are_not_int16_keep_their_proportions(finished, tmp_path, dtype, gain):
    """suite2p knows nothing but int16: nothing is clipped or wrapped, and the factor is told."""
    frames = np.random.default_rng(0).uniform(10, 600, (20, 30, 40)) * gain
    results = finished(20, dtype, movie=frames, mask=np.ones((30, 40), bool))
    ops = ops_of(to_suite2p(results, tmp_path, frame_rate=30))
    expected, scale = expected_movie(results), ops["pyflow"]["scale"]
    assert (scale == 1) == (dtype in (np.int32, np.uint8))
    np.testing.assert_allclose(movie_of(ops) / scale, expected, atol=0.51 / scale)
    assert np.abs(movie_of(ops)).max() <= 32767


def test_results_of_another_movie_do_not_stay(finished, tmp_path, monkeypatch):
    results = finished()
    path = to_suite2p(results, tmp_path, frame_rate=30)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyflow.export.suite2p._write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        to_suite2p(results, tmp_path, frame_rate=30)
    assert sorted(file.name for file in path.parent.iterdir()) == ["data.bin"]


def test_a_run_of_suite2p_on_another_movie_stays(finished, tmp_path):
    results = finished()
    plane = tmp_path / "data/suite2p/plane0"
    plane.mkdir(parents=True)
    np.save(plane / "ops.npy", {"Ly": 4, "Lx": 4, "nframes": 2})
    np.zeros((2, 4, 4), np.int16).tofile(plane / "data.bin")
    before = {file.name: file.read_bytes() for file in plane.iterdir()}
    with pytest.raises(ValueError, match=r"plane0: holds results of suite2p that are no export of pyflow"):
        to_suite2p(results, tmp_path / "data", frame_rate=30)
    assert {file.name: file.read_bytes() for file in plane.iterdir()} == before
    again = to_suite2p(results, tmp_path / "new", frame_rate=30)
    assert to_suite2p(results, tmp_path / "new", frame_rate=30) == again
    (
        again.parent / "ops.npy"
    ).unlink()  # as after an interruption, and where suite2p wrote it anew without what it knows
    assert to_suite2p(results, tmp_path / "new", frame_rate=30) == again


def test_errors_say_what_is_wrong(finished, tmp_path):
    results = finished(mask=np.zeros((72, 80), bool))
    with pytest.raises(ValueError, match="no pixel is valid in every recording"):
        to_suite2p(results, tmp_path, frame_rate=30)
    with pytest.raises(ValueError, match="frame_rate: expected frames per second, found 0"):
        to_suite2p(results, tmp_path, frame_rate=0)
    with pytest.raises(FileNotFoundError, match="all stages of the session have to run first"):
        to_suite2p(tmp_path, tmp_path, frame_rate=30)
    video = next((tmp_path / "compensated_outputs").glob("*/compensated.hdf5"))
    video.unlink()
    with pytest.raises(FileNotFoundError, match=f"{video} is gone"):
        to_suite2p(results, tmp_path, frame_rate=30)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_no_rectangle_of_true_pixels_is_larger(mask):
    (top, bottom), (left, right) = largest_rectangle(mask)
    assert mask[top:bottom, left:right].all()
    rows, columns = mask.shape
    largest = max(
        (y1 - y0) * (x1 - x0) * mask[y0:y1, x0:x1].all()
        for y0 in range(rows)
        for y1 in range(y0 + 1, rows + 1)
        for x0 in range(columns)
        for x1 in range(x0 + 1, columns + 1)
    )
    assert (bottom - top) * (right - left) == largest


@pytest.mark.skipif(
    PYTHON is None, reason="PYFLOW_HANDOVER_PYTHON does not name a Python with suite2p and roiextractors"
)
def test_no_region_that_suite2p_detects_touches_an_invalid_pixel(finished, tmp_path):
    """Cells lie across the border of the mask; suite2p finds them there as soon as it looks there."""
    ops = ops_of(to_suite2p(finished(250), tmp_path, frame_rate=10))
    plane = Path(ops["save_path"])
    everywhere = {**ops_of(plane / "reg_outputs.npy"), "yrange": [0, ops["Ly"]], "xrange": [0, ops["Lx"]]}
    touching = []
    for registration in (None, everywhere):
        if registration is not None:
            np.save(plane / "reg_outputs.npy", registration)
            recordings = AlignedSession.open(tmp_path / "final_results")
            unmasked = [f for r in recordings.recordings for f in recordings.frames(r, 1, masked=False)]
            np.concatenate(unmasked).astype(np.int16).tofile(plane / "data.bin")
        script = Path(__file__).with_name("suite2p_detection.py")
        done = subprocess.run([PYTHON, str(script), str(plane)], capture_output=True, text=True, check=False)
        assert "detection is done" in done.stdout, done.stderr
        found = np.load(plane / "stat.npy", allow_pickle=True)
        invalid = ~ops["pyflow"]["final_valid"]
        touching.append(sum(invalid[one["ypix"], one["xpix"]].any() for one in found))
        assert len(found) > 20
        script = "import sys, roiextractors as r; print(r.Suite2pSegmentationExtractor(sys.argv[1]).get_num_rois())"
        assert int(subprocess.check_output([PYTHON, "-W", "ignore", "-c", script, plane.parent])) == len(found)
    assert touching[0] == 0
    assert touching[1] > 5
