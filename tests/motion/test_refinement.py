"""A reference that was given is sharpened where that registers the recording better, and only there."""

import numpy as np
import pytest

from pyflow.motion.compensate import compensate_arr, compensate_recording
from pyflow.motion.noise import pair_starts
from pyflow.motion.options import OFOptions
from pyflow.simulate import endpoint_error, jitter, simulate_recording


@pytest.fixture(scope="module")
def moving():
    return simulate_recording((128, 128), 120, photons=20, rigid_px=6, nonrigid_px=1, jerks=4, seed=32)


def run(movie, reference, tmp_path, **options):
    np.save(tmp_path / "movie.npy", movie)
    chosen = OFOptions(input_file=tmp_path / "movie.npy", output_path=tmp_path / "out", n_workers=2, **options)
    return compensate_recording(chosen, reference=reference)


def test_a_blurred_reference_is_sharpened_in_its_place(moving, tmp_path, caplog):
    given = moving.movie.mean(axis=0)
    with caplog.at_level("INFO"):
        found = run(moving.movie, given, tmp_path, save_w=True)
    assert "takes its place" in caplog.text
    options = OFOptions(n_workers=2).with_alpha(found.alpha)
    as_given, sharpened = (compensate_arr(moving.movie, image, options)[1] for image in (given, found.reference))
    for error in (jitter, endpoint_error):  # the one does not see where the reference lies, the other does
        assert error(sharpened, moving.displacement_px, 8) < 0.8 * error(as_given, moving.displacement_px, 8)


def test_a_reference_that_was_registered_before_is_kept(moving, tmp_path):
    own = run(moving.movie, None, tmp_path).reference
    np.testing.assert_array_equal(run(moving.movie, own, tmp_path).reference, own)


def test_with_a_number_for_alpha_what_was_given_is_kept(moving, tmp_path):
    given = moving.movie.mean(axis=0)
    np.testing.assert_array_equal(run(moving.movie, given, tmp_path, alpha=20).reference, given)


def test_too_few_frames_sharpen_nothing(moving, tmp_path):
    given = moving.movie.mean(axis=0)
    np.testing.assert_array_equal(run(moving.movie[:40], given, tmp_path).reference, given)


def test_where_most_frames_show_nothing_nothing_is_sharpened(moving, tmp_path):
    movie = moving.movie.astype(np.float32)
    given = movie.mean(axis=0)
    kept = np.add.outer(pair_starts(len(movie)), (0, 1)).ravel()
    movie[np.setdiff1d(np.arange(len(movie)), [*kept, *range(0, len(movie), 3)])] = np.nan
    np.testing.assert_array_equal(run(movie, given, tmp_path).reference, given)


def test_a_channel_without_weight_does_not_judge(moving, tmp_path):
    """Its structure, which does not move, agrees best where nothing is registered."""
    still = np.random.default_rng(1).integers(0, 2000, moving.movie.shape[1:])
    movie = np.stack([moving.movie, np.broadcast_to(still, moving.movie.shape).astype(moving.movie.dtype)], axis=-1)
    given = movie.mean(axis=0)
    found = run(movie, given, tmp_path, weight=[1, 0])
    assert np.abs(found.reference[..., 0] - given[..., 0]).max() > 1
