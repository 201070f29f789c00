"""The field of one channel, applied to another, is what registering both together gives."""

import h5py
import numpy as np
import pytest
import tifffile

from pyflow.io import open_video
from pyflow.motion.apply import apply_displacement
from pyflow.motion.compensate import compensate_recording
from pyflow.motion.lines import shift_lines
from pyflow.motion.options import OFOptions
from pyflow.session.cli import main
from pyflow.session.commands.terminal import DONE, FAILED


@pytest.fixture
def recording(tmp_path, scene, shifts):
    """A channel that was registered, and beside it another of the same motion."""
    movie = scene.movie(shifts)
    movie = movie[..., 0] if movie.ndim == 4 else movie
    tifffile.imwrite(tmp_path / "green.tif", movie)
    tifffile.imwrite(tmp_path / "red.tif", (movie.max() - movie).astype(movie.dtype))
    options = OFOptions(input_file=tmp_path / "green.tif", output_path=tmp_path / "green", alpha=4, save_w=True)
    compensate_recording(options.replace(quality_setting="fast"))
    return tmp_path


@pytest.mark.parametrize("where", ["green", "green/w.hdf"])
def test_one_channels_field_on_another(recording, where):
    apply_displacement(recording / "red.tif", recording / where, recording / "out.hdf5")
    with (
        open_video(recording / "green/compensated.hdf5") as green,
        open_video(recording / "out.hdf5") as red,
        open_video(recording / "green/idx.hdf", dataset="idx") as valid,
        open_video(recording / "green.tif") as raw,
    ):
        inside = valid[:] != 0
        assert red.dtype == raw.dtype
        mirrored = raw[:].max() - green[:].astype(float)
        # Cubic interpolation is linear in the grey values, which are rounded and, where they overshoot, cut.
        np.testing.assert_allclose(red[:][inside], mirrored[inside], atol=2)


def test_one_field_for_all_frames(tmp_path):
    movie = np.random.default_rng(0).integers(0, 1000, (5, 32, 40)).astype(np.uint16)
    field = np.zeros((32, 40, 2), np.float32)
    field[..., 0] = 3
    apply_displacement(movie, field, tmp_path / "a.tif")
    with open_video(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader[:, :, :-3, 0], movie[:, :, 3:])
        np.testing.assert_array_equal(reader[0, :, -3:, 0], np.rint(movie.mean(axis=0))[:, -3:])
    np.savez(tmp_path / "w_to_reference.npz", u=field[..., 0], v=field[..., 1])
    apply_displacement(movie, tmp_path / "w_to_reference.npz", tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), tifffile.imread(tmp_path / "b.tif"))


def test_a_long_recording_is_warped_by_the_fields_of_its_own_frames(tmp_path, monkeypatch):
    monkeypatch.setattr("pyflow.motion.apply._PIECE_BYTES", 2 * 32 * 40 * 4)  # two frames at a time
    movie = np.random.default_rng(0).integers(0, 1000, (5, 32, 40)).astype(np.uint16)
    field = np.zeros((5, 32, 40, 2), np.float32)
    field[..., 0] = np.arange(5)[:, None, None]
    done = []
    apply_displacement(movie, field, tmp_path / "a.tif", progress=lambda n, total: done.append((n, total)))
    with open_video(tmp_path / "a.tif") as reader:
        for t in range(5):
            np.testing.assert_array_equal(reader[t, :, : 40 - t, 0], movie[t, :, t:])
    assert done == [(2, 5), (4, 5), (5, 5)]


def test_what_stands_for_pixels_from_outside_has_its_lines_shifted_too(tmp_path):
    movie = np.random.default_rng(0).integers(0, 1000, (5, 32, 40)).astype(np.uint16)
    field = np.zeros((32, 40, 2), np.float32)
    field[..., 0] = 3
    apply_displacement(movie, field, tmp_path / "a.tif", bidiphase=2)
    mean = shift_lines(movie[..., None], 2)[..., 0].mean(axis=0)
    with open_video(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader[0, :, -3:, 0], np.rint(mean)[:, -3:])


def test_what_does_not_fit_is_refused_with_both_numbers(tmp_path):
    movie = np.zeros((5, 32, 40), np.uint16)
    with h5py.File(tmp_path / "w.hdf", "w") as file:
        file["u"] = file["v"] = np.zeros((6, 32, 40), np.float32)
    with pytest.raises(ValueError, match=r"w\.hdf: displacement of 6 frames, but video in memory has 5"):
        apply_displacement(movie, tmp_path / "w.hdf", tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"displacement of \(32, 40\) pixels, but frames of .* are \(40, 32\)"):
        apply_displacement(movie.transpose(0, 2, 1), tmp_path, tmp_path / "a.tif")
    (tmp_path / "w.hdf").unlink()
    with pytest.raises(FileNotFoundError, match="save_w = true"):
        apply_displacement(movie, tmp_path, tmp_path / "a.tif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "output", ["red.tif", "link.tif", "green/w.hdf", "green/compensated.hdf5", "folder/1.tif", "hard.tif"]
)
def test_what_the_result_is_made_from_is_not_replaced(recording, output):
    (recording / "folder").mkdir()
    (recording / "folder/1.tif").write_bytes((recording / "red.tif").read_bytes())
    (recording / "link.tif").symlink_to(recording / "red.tif")
    (recording / "hard.tif").hardlink_to(recording / "red.tif")
    source = recording / "folder" if output.startswith("folder") else [recording / "red.tif"]
    before = (recording / output).read_bytes()
    with pytest.raises(ValueError, match=rf"{output}: the result would replace what it is made from, or other results"):
        apply_displacement(source, recording / "green", recording / output)
    assert (recording / output).read_bytes() == before


def test_from_the_command_line(recording, capsys):
    words = ["apply", str(recording / "red.tif"), "--displacement", str(recording / "green")]
    assert main([*words, "--output", str(recording / "out.tif")]) == DONE
    with open_video(recording / "out.tif") as reader, open_video(recording / "red.tif") as raw:
        assert reader.shape == raw.shape
    assert main([*words, "--output", str(recording / "b.tif"), "--reader", "frames=0:3"]) == FAILED
    assert "but" in capsys.readouterr().err
