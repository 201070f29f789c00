"""What makes a frame, or a pair of recordings, worth believing."""

import numpy as np
import pytest

from pyflow.flow.filters import gaussian_filter
from pyflow.io import open_video
from pyflow.motion.quality import (
    CONSTANT,
    LEAST_FRAMES,
    NOT_FINITE,
    Misfit,
    frame_problem,
    misfit_limit,
    overlap,
    period_of,
)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [gaussian_filter(rng.random((64, 96, 2)), 3) for _ in range(2)]


def test_pixels_from_outside_do_not_count(images):
    """They hold the reference, so that they would fit whatever the frame shows."""
    reference, other = images
    misfit = Misfit(reference)
    valid = np.zeros(reference.shape[:2], bool)
    valid[:, :32] = True
    filled = np.where(valid[..., np.newaxis], other, reference)
    assert misfit(filled, valid) > 0.7
    assert misfit(np.where(valid[..., np.newaxis], reference, other), valid) < 0.01
    assert misfit(filled, np.zeros_like(valid)) == 1
    assert misfit(other, np.ones_like(valid)) == misfit(other)


def test_reduced_images_are_compared(images):
    """Noise that is finer than what frames have in common does not count."""
    reference = images[0].astype(np.float32)
    noise = np.random.default_rng(1).normal(0, reference.std(), reference.shape).astype(np.float32)
    assert np.corrcoef(reference.ravel(), (reference + noise).ravel())[0, 1] < 0.75
    assert Misfit(reference)(reference + noise) < 0.1


def test_overlap():
    assert [overlap(np.arange(8).reshape(2, 4) < n) for n in (0, 2, 8)] == [0, 0.25, 1]


def test_misfit_limit():
    assert misfit_limit(np.full(LEAST_FRAMES - 1, 0.1)) == np.inf
    assert misfit_limit(np.full(24, 0.1)) == 0.5
    # hardly any spread: twice what is usual is still no other image
    assert misfit_limit(np.full(24, 0.4)) == pytest.approx(0.8)
    # robust against frames that do not fit, and far from those that do
    usual = np.random.default_rng(0).normal(0.3, 0.05, 21)
    limit = misfit_limit(np.append(usual, [1, 1, 1]))
    assert usual.max() + 0.1 < limit < 1


# ---- interleaved channels and planes ----------------------------------------------------------------------


def scene(seed, shape=(64, 80)):
    image = np.random.default_rng(seed).normal(size=shape).cumsum(0).cumsum(1)
    return (image - image.mean()) / image.std()


@pytest.mark.parametrize("period", [2, 3, 5])
@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_interleaved_scenes_are_told(period, noise):
    rng = np.random.default_rng(0)
    frames = [scene(t % period) + noise * rng.normal(size=(64, 80)) for t in range(120)]
    assert period_of([frame[..., None] for frame in frames]) == period


@pytest.mark.parametrize("noise", [0.1, 3.0, 100.0])
@pytest.mark.parametrize("gain", [0.0, 0.5])
def test_one_scene_has_no_period(noise, gain):
    """Nor has one that moves, bleaches, and gets brighter in every second frame, as from a lamp."""
    rng = np.random.default_rng(0)
    frames = []
    for t in range(200):
        image = np.roll(scene(0), (round(3 * np.sin(t / 7)), round(4 * np.sin(t / 11))), (0, 1))
        frames.append((1 - t / 400) * image + gain * (t % 2) + noise * rng.normal(size=image.shape))
    assert period_of([frame[..., None] for frame in frames]) == 1


def test_a_dark_channel_between_frames_is_told():
    rng = np.random.default_rng(0)
    frames = [(scene(0) if t % 2 else 0) + 0.3 * rng.normal(size=(64, 80)) for t in range(60)]
    assert period_of([frame[..., None] for frame in frames]) == 2


def test_few_frames_say_nothing():
    assert period_of([scene(t)[..., None] for t in range(5)]) == 1
    assert period_of([]) == 1


@pytest.mark.parametrize(
    "name", ["two_photon_128x256_20f.tif", "two_photon_256x256_200f.tif", "two_photon_fly_241x372_40f.tif"]
)
def test_real_recordings_have_no_period(shared, name):
    with open_video(shared / "data" / name) as reader:
        assert period_of(list(reader[:])) == 1


def test_why_a_frame_cannot_be_registered_at_all():
    frame = np.arange(12.0).reshape(3, 4, 1)
    assert frame_problem(frame) == 0
    assert frame_problem(np.full((3, 4, 2), 7, np.uint16)) == CONSTANT
    for value in (np.nan, np.inf):
        frame[1, 2] = value
        assert frame_problem(frame) == NOT_FINITE


def test_how_many_misfits_tell_what_is_usual():
    assert np.isfinite(misfit_limit(np.full(LEAST_FRAMES, 0.1)))
    assert misfit_limit(np.full(LEAST_FRAMES - 1, 0.1)) == np.inf
