"""pyflow-session zshift: the depth of recordings in a stack, as a table and a plot."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pyflow.io import ReaderOptions
from pyflow.session.cli import main
from pyflow.session.commands.terminal import DONE, FAILED, USAGE
from pyflow.session.zshift import open_stack, targets_of
from pyflow.simulate import simulate_depth, simulate_recording


@pytest.fixture(scope="module")
def truth():
    return simulate_depth((96, 96), n_frames=24, photons=20, seed=1, drift_planes=2)


@pytest.fixture
def folder(tmp_path, truth, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    tifffile.imwrite("data/rec.tif", truth.recording.movie, photometric="minisblack")
    tifffile.imwrite("stack.tif", truth.stack, photometric="minisblack")
    return tmp_path


def table(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) if row[name] else np.nan for row in rows] for name in rows[0]}


def test_a_recording_as_it_was_recorded(folder, truth, capsys):
    words = ["zshift", "data/rec.tif", "--stack", "stack.tif", "--spacing", "5", "--smoothing", "1"]
    assert main([*words, "--reader", "frame_rate=20"]) == DONE
    found = table("rec_depth/depth.csv")
    assert np.abs(np.array(found["depth_planes"]) - truth.depth).max() < 0.35
    np.testing.assert_allclose(found["smoothed_um"], np.multiply(5, found["smoothed_planes"]), rtol=1e-4)
    assert found["frame"] == list(range(24))
    assert found["time_s"][20] == 1
    assert 0.3 < min(found["correlation"]) <= max(found["correlation"]) <= 1
    with np.load("rec_depth/depth.npz") as saved:
        np.testing.assert_allclose(saved["depth"], found["depth_planes"], rtol=1e-5)
    said = capsys.readouterr().out
    low, high = min(found["smoothed_planes"]), max(found["smoothed_planes"])
    assert f"rec: {high - low:.2f} planes of drift: between {low:.2f} and {high:.2f}, the average at" in said
    assert f"rec: {5 * (high - low):.2f} micrometres of drift" in said
    in_planes, in_um = (float(number) for number in re.findall(r"the average at (\S+)", said))
    assert in_um == pytest.approx(5 * in_planes, abs=0.03)
    assert "attention" not in said
    assert (folder / "rec_depth" / "depth.png").read_bytes().startswith(b"\x89PNG")


def test_recordings_of_a_session_whether_registered_or_not(folder, truth, capsys):
    (folder / "session.toml").write_text('root = "data"\n[flow_options]\nquality_setting = "fast"\niterations = 2\n')
    frames = truth.recording.movie[:4].copy()
    frames[2] = 7
    tifffile.imwrite("data/rec2.tif", frames, photometric="minisblack")
    tifffile.imwrite("data/small.tif", frames[:, :64, :64], photometric="minisblack")
    assert main(["zshift", "session.toml", "--stack", "stack.tif", "--smoothing", "0"]) == FAILED
    said = capsys.readouterr()
    assert "failed small: stack.tif: planes of 96 x 96 pixels, expected 64 x 64 as the frames of small" in said.err
    assert "rec2: 1 of 4 frames show nothing, and have no depth" in said.out
    results = folder / "data" / "compensated_outputs"
    depth = np.array(table(results / "rec2" / "depth.csv")["depth_planes"])
    np.testing.assert_array_equal(np.isnan(depth), [False, False, True, False])
    (folder / "data" / "small.tif").unlink()
    (folder / "data" / "rec.tif").unlink()
    assert main(["session.toml", "--stage", "1"]) == DONE
    assert main(["verify", "session.toml"]) == FAILED  # stages 2 and 3 are not done
    assert "rec2: stage 2 not done" in capsys.readouterr().out
    assert (results / "rec2" / "depth.png").exists()


def test_a_stack_of_other_tissue_is_not_believed(folder, truth, capsys):
    np.save("other.npy", truth.stack[:, ::-1, ::-1])
    assert main(["zshift", "data/rec.tif", "--stack", "other.npy", "--output", "out"]) == DONE
    assert "attention: the recording's average correlates to 0." in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["depth.csv", "depth.npz", "depth.png"]


def test_a_movie_is_no_stack(folder, truth, capsys):
    """Frames of one plane differ, by noise, and each is most like one of them: nothing else would tell."""
    assert main(["zshift", "data/rec.tif", "--stack", "data/rec.tif"]) == FAILED
    said = " ".join(capsys.readouterr().err.split())
    assert "failed rec: data/rec.tif: its planes are the frames of rec, expected a stack of" in said
    assert not (folder / "rec_depth").exists()
    still = simulate_recording((96, 96), 24, photons=5, seed=3).movie
    tifffile.imwrite("data/still.tif", still[:16], photometric="minisblack")
    tifffile.imwrite("movie.tif", still[8:], photometric="minisblack")
    assert main(["zshift", "data/still.tif", "--stack", "movie.tif"]) == DONE
    assert "still: attention: far planes of the stack are almost as much alike as neighbours" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stack", "gone.tif"], "gone.tif: no such file"),
        (["--stack", "two.tif"], "two.tif: 2 planes, expected at least 3"),
        (["--stack", "stack.tif", "--spacing", "0"], "--spacing: expected a number above 0, found 0"),
        (["--stack", "stack.tif", "--smoothing", "-1"], "expected a number above 0, found -1"),
        (["--stack", "stack.tif", "--stack-reader", "planes=2"], "unknown reader option 'planes'"),
        ([], "required: --stack"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_computed(folder, truth, capsys, words, message):
    tifffile.imwrite("two.tif", truth.stack[:2], photometric="minisblack")
    try:
        code = main(["zshift", "data/rec.tif", *words])
    except SystemExit as exit_:
        code = exit_.code
    assert code == USAGE
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (folder / "rec_depth").exists()


def test_a_recording_that_is_not_there_is_2(folder, capsys):
    assert main(["zshift", "gone.tif", "--stack", "stack.tif"]) == USAGE
    assert "gone.tif: there is no such file" in capsys.readouterr().err


def test_what_the_command_says_of_a_session_goes_before_its_file(folder):
    (folder / "session.toml").write_text('root = "data"\n[reader]\nframe_rate = 10\nbin_size = 2\n')
    (own,) = targets_of(Path("session.toml"), ReaderOptions(), None)
    assert own.folder == folder / "data" / "compensated_outputs" / "rec"
    (told,) = targets_of(Path("session.toml"), ReaderOptions(frame_rate=20), Path("else"))
    assert (told.reader.frame_rate, told.reader.bin_size, told.folder) == (20, 2, Path("else/rec"))


def test_planes_of_a_stack_are_means_of_their_frames(tmp_path):
    frames = np.random.default_rng(0).integers(0, 99, (3, 4, 40, 48), dtype=np.uint16)  # (T, Z, H, W)
    tifffile.imwrite(tmp_path / "a.tif", frames, imagej=True, metadata={"axes": "TZYX"})
    found = open_stack(tmp_path / "a.tif", ReaderOptions())
    np.testing.assert_allclose(found[..., 0], frames.mean(axis=0), rtol=1e-6)
    np.save(tmp_path / "three.npy", frames[0, :3])
    assert len(open_stack(tmp_path / "three.npy", ReaderOptions())) == 3  # the fewest that there may be
    np.save(tmp_path / "a.npy", np.moveaxis(frames, 1, 0))
    np.testing.assert_array_equal(open_stack(tmp_path / "a.npy", ReaderOptions(axes="ZTHW")), found)


def test_the_folder_that_one_is_in_has_a_name(folder, monkeypatch):
    (folder / "run 1" / "in").mkdir(parents=True)
    monkeypatch.chdir(folder / "run 1" / "in")
    assert [targets_of(Path(where), ReaderOptions(), None)[0].name for where in (".", "..")] == ["in", "run 1"]
