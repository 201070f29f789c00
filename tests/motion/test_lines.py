"""Bidirectional scanning: lines that lie beside the others are found and moved."""

import numpy as np
import pytest

from pyflow.flow.filters import gaussian_filter
from pyflow.io import open_video
from pyflow.motion.compensate import compensate_arr, compensate_recording
from pyflow.motion.lines import line_shift, shift_lines
from pyflow.motion.options import OFOptions


def scene(height=64, width=160):
    return 2000 * gaussian_filter(np.random.default_rng(0).random((height, width, 1)), 2)


def recorded(shift, noise=0.0, n_frames=12, **size):
    """Frames whose odd lines lie `shift` pixels to the left of where they belong."""
    rng = np.random.default_rng(1)
    image = scene(**size)
    image[1::2] = np.roll(image[1::2], -shift, axis=1)
    return [image + noise * rng.normal(size=image.shape) for _ in range(n_frames)]


@pytest.mark.parametrize("shift", [-9, -3, -1, 0, 1, 2, 7])
@pytest.mark.parametrize("noise", [0, 50, 150])
@pytest.mark.parametrize("height", [64, 65])
def test_a_known_shift_is_found(shift, noise, height):
    """The noise has up to twice the spread of the image."""
    assert line_shift(recorded(shift, noise, height=height)) == shift


@pytest.mark.parametrize("seed", range(20))
def test_noise_has_no_shift(seed):
    rng = np.random.default_rng(seed)
    assert line_shift([rng.random((64, 160, 1)) for _ in range(12)]) == 0
    assert line_shift([np.zeros((64, 160, 1))] * 3) == 0
    assert line_shift([]) == 0


@pytest.mark.parametrize("name", ["two_photon_128x256_20f.tif", "two_photon_256x256_200f.tif"])
@pytest.mark.parametrize("shift", [-4, 3])
def test_lines_of_real_recordings(shared, name, shift):
    with open_video(shared / "data" / name) as reader:
        frames = reader[:20]
    own = line_shift(list(frames))
    assert abs(own) <= 1
    assert line_shift(list(shift_lines(frames, -shift))) == shift + own


def test_moving_lines_takes_back_what_was_done():
    frames = np.stack(recorded(0))
    moved = shift_lines(shift_lines(frames, -3), 3)
    np.testing.assert_array_equal(moved[:, :, 3:-3], frames[:, :, 3:-3])
    np.testing.assert_array_equal(shift_lines(frames, 5)[:, ::2], frames[:, ::2])
    assert shift_lines(frames, 0) is frames


def test_lines_are_moved_before_registration(tmp_path):
    movie = np.stack(recorded(3, 20)).astype(np.uint16)[..., 0]
    straight = shift_lines(movie[..., None], 3)[..., 0]
    options = OFOptions(alpha=4, quality_setting="fast", levels=2)
    expected, _ = compensate_arr(straight, options=options)
    for bidiphase in (3, "auto"):
        found, _ = compensate_arr(movie, options=options.replace(bidiphase=bidiphase))
        np.testing.assert_array_equal(found, expected)
    result = compensate_recording(options.replace(bidiphase="auto", input_file=movie, output_path=tmp_path))
    assert result.bidiphase == 3
    with pytest.raises(ValueError, match="bidiphase"):
        OFOptions(bidiphase="left")
