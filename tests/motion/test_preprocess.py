"""Scaling by the reference and the Gaussian filter in space and time."""

import numpy as np
import pytest
import scipy.ndimage

from pyflow.motion.options import OFOptions
from pyflow.motion.preprocess import Preprocessor


@pytest.fixture
def movie(rng):
    return rng.integers(100, 4000, (9, 12, 14, 2)).astype(np.uint16)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def test_joint_and_separate_scaling(movie):
    raw = movie[0]
    unfiltered = OFOptions(sigma=(0, 0, 0))
    joint = Preprocessor(raw, unfiltered, raw.dtype).image(raw)
    assert joint.dtype == np.float32
    np.testing.assert_allclose(joint, (raw - raw.min()) / np.ptp(raw).astype(float), atol=1e-6)
    separate = Preprocessor(raw, unfiltered.replace(channel_normalization="separate"), raw.dtype).image(raw)
    for c in range(2):
        np.testing.assert_allclose(separate[..., c], (raw[..., c] - raw[..., c].min()) / np.ptp(raw[..., c]), atol=1e-6)


def test_large_offsets_keep_their_contrast():
    raw = np.arange(2**30, 2**30 + 12).reshape(3, 4, 1)
    scaled = Preprocessor(raw, OFOptions(sigma=(0, 0, 0)), raw.dtype).image(raw)
    np.testing.assert_allclose(scaled.ravel(), np.arange(12) / 11, atol=1e-6)


def test_filter_is_scipy_s_gaussian_per_channel(movie):
    sigma = ((1.0, 2.0, 0.8), (0.5, 0.5, 0.4))
    preprocess = Preprocessor(movie[0], OFOptions(sigma=sigma), movie.dtype)
    scaled = (movie.astype(float) - movie[0].min()) / np.ptp(movie[0])
    radius = preprocess.radius
    assert radius == 3
    padded = np.pad(movie, ((radius, radius), (0, 0), (0, 0), (0, 0)), mode="symmetric")
    result = np.stack([preprocess(padded[t : t + 2 * radius + 1]) for t in range(len(movie))])
    for c, (sx, sy, st) in enumerate(sigma):
        expected = scipy.ndimage.gaussian_filter(scaled[..., c], (st, sy, sx), mode="reflect")
        np.testing.assert_allclose(result[..., c], expected, atol=2e-6)


def test_default_filters_nothing_in_time(movie):
    assert Preprocessor(movie[0], OFOptions(), movie.dtype).radius == 0


def test_neighbours_without_image_are_left_out(movie):
    preprocess = Preprocessor(movie[0], OFOptions(sigma=(1, 1, 0.3)), np.float32)
    a, b = movie[1].astype(np.float32), movie[2].astype(np.float32)
    broken = np.full_like(a, np.nan)
    result = preprocess([broken, a, b])
    expected = preprocess([np.zeros_like(a), a, b])
    np.testing.assert_array_equal(result, expected)
    assert np.isfinite(result).all()


@pytest.mark.parametrize(("value", "message"), [(5.0, "constant"), (np.nan, "NaN")])
def test_refuses_reference_without_image(value, message):
    with pytest.raises(ValueError, match=message):
        Preprocessor(np.full((4, 4, 1), value), OFOptions(), np.float32)


def test_one_constant_channel_is_harmless(movie):
    raw = movie[0].copy()
    raw[..., 1] = 7
    result = Preprocessor(raw, OFOptions(channel_normalization="separate"), raw.dtype).image(raw)
    assert np.isfinite(result).all()


def test_a_function_of_the_user_s_goes_before_everything_but_the_filter_in_time(movie):
    def hidden(image):
        image[:, :3] = 0  # may write into what it gets
        return np.sqrt(image)

    options = OFOptions(sigma=(1, 1, 0.3), preprocess=hidden)
    raw = movie[0].astype(float)
    kept, preprocess = movie.copy(), Preprocessor(raw, options, movie.dtype)
    by_hand = np.sqrt(raw)
    by_hand[:, :3] = 0
    plain = Preprocessor(by_hand, options.replace(preprocess=None), movie.dtype)
    np.testing.assert_allclose(preprocess.image(raw), plain.image(by_hand), atol=1e-6)
    same = [movie[4]] * 3  # whose mean over time is itself
    by_hand = np.sqrt(movie[4].astype(np.float32))
    by_hand[:, :3] = 0
    np.testing.assert_allclose(preprocess(same), plain.image(by_hand), atol=1e-6)
    np.testing.assert_array_equal(movie, kept)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda image: image[1:], r"returned float64 of shape \(11, 14, 2\), expected .* \(12, 14, 2\)"),
        (lambda image: image + 1j, "returned complex128"),
        (lambda image: None, "returned object of shape"),
        (lambda image: image * np.nan, "returned NaN"),
    ],
)
def test_what_is_no_image_is_refused(movie, function, message):
    with pytest.raises(ValueError, match=message):
        Preprocessor(movie[0].astype(float), OFOptions(preprocess=function), movie.dtype)
