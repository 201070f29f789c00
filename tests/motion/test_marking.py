"""Frames that show something else, or would be bent too far, are marked and passed on as they are."""

import numpy as np
import pytest
import tifffile

from pyflow import OFOptions, compensate_recording
from pyflow.motion.preprocess import Preprocessor
from pyflow.motion.quality import OUTSIDE, PROBLEMS, TOO_FAR, Misfit
from pyflow.motion.register import FrameEstimate, FrameRegistration
from pyflow.simulate import simulate_recording

OPTIONS = OFOptions(alpha=40, quality_setting="fast", n_workers=2)


@pytest.fixture(scope="module")
def recording():
    return simulate_recording((96, 96), 30, photons=20, rigid_px=2, nonrigid_px=1, jerks=0, seed=6)


def compensated(movie, reference, folder, **options):
    tifffile.imwrite(folder / "movie.tif", movie, photometric="minisblack")
    options = OPTIONS.replace(input_file=folder / "movie.tif", output_path=folder / "out", **options)
    return compensate_recording(options, reference=reference)


def test_another_depth_is_marked(recording, tmp_path):
    other = simulate_recording((96, 96), 1, photons=20, rigid_px=0, nonrigid_px=0, jerks=0, seed=7)
    movie = recording.movie.copy()
    movie[13] = other.movie[0]
    result = compensated(movie, recording.template, tmp_path)
    assert list(result.problems) == [13]
    assert "does not resemble the reference" in result.problems[13]
    assert np.isnan(result.statistics["misfit"][13])
    assert np.nanmax(result.statistics["misfit"]) < 0.5


def test_cells_that_fire_together_are_no_misfit(recording, tmp_path):
    movie = recording.movie.astype(np.float32)
    movie[13] += 2 * movie[13].mean() * recording.masks.any(axis=0)
    assert compensated(movie.astype(np.uint16), recording.template, tmp_path).problems == {}


def test_beyond_max_displacement(recording, tmp_path):
    movie = recording.movie.copy()
    movie[20] = np.roll(movie[20], 6, axis=1)
    result = compensated(movie, recording.template, tmp_path, max_displacement=5)
    assert list(result.problems) == [20]
    assert "max_displacement" in result.problems[20]
    assert compensated(movie, recording.template, tmp_path).problems == {}


def test_misfit_is_zero_for_the_reference_and_one_for_noise():
    rng = np.random.default_rng(0)
    image = rng.random((64, 64, 2))
    misfit = Misfit(image)
    assert misfit(image) == pytest.approx(0, abs=1e-6)
    assert misfit(3 * image + 5) == pytest.approx(0, abs=1e-6)
    assert misfit(rng.random((64, 64, 2))) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("rigid_first", [False, True])
def test_foreign_frames_are_marked_however_far_they_are_displaced(tmp_path, rigid_first):
    """Much of such a frame may come from outside, where it takes the reference's values and fits perfectly."""
    recording = simulate_recording((160, 160), 30, photons=20, rigid_px=2, nonrigid_px=1, jerks=0, seed=6)
    rng = np.random.default_rng(3)
    foreign = np.arange(4, 25)
    movie = np.concatenate([recording.movie] * 3)
    for t in foreign[::2]:
        movie[t] = rng.poisson(movie.mean(), movie.shape[1:])
    for t in foreign[1::2]:
        other = simulate_recording((160, 160), 1, photons=20, rigid_px=0, nonrigid_px=0, jerks=0, seed=100 + t)
        movie[t] = other.movie[0]
    result = compensated(movie, recording.template, tmp_path, cc_initialization=rigid_first)
    assert list(result.problems) == list(foreign)


def test_frame_displaced_out_of_sight_is_marked(recording, tmp_path, monkeypatch):
    """Also in recordings too short to tell what misfit is usual."""
    monkeypatch.setattr("pyflow.motion.register.RigidShift.__call__", lambda self, image: (90.0, 0.0))
    with pytest.raises(ValueError, match=f"none of the 2 frames could be registered: 0 .{PROBLEMS[OUTSIDE]}"):
        compensated(recording.movie[:2], recording.template, tmp_path, cc_initialization=True)


def test_one_pixel_beyond_max_displacement_is_enough():
    """A local jump hardly shows in the mean."""
    y, x = np.mgrid[:96, :96]
    image = simulate_recording((96, 96), 1, rigid_px=0, nonrigid_px=0, jerks=0, seed=6).template[..., np.newaxis]
    options = OPTIONS.replace(max_displacement=5)
    register = FrameRegistration(
        image.astype(np.float32), image, Preprocessor(image, options, image.dtype), options, np.dtype(np.float32)
    )
    w = np.zeros((96, 96, 2), np.float32)
    w[..., 0] = 6 * np.exp(-((x - 48) ** 2 + (y - 48) ** 2) / 50)
    assert register.finish([FrameEstimate(image, field=w, residual=w)]).problem == TOO_FAR
    assert register.finish([FrameEstimate(image, field=w / 2, residual=w / 2)]).problem == 0
