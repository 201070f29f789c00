"""Filters against their twins; invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import filters as twin

from pyflow.flow.filters import gaussian_filter, median_filter_5x5, resize

SIDES = st.integers(1, 40)
IMAGES = st.tuples(SIDES, SIDES).flatmap(
    lambda shape: arrays(
        st.sampled_from([np.uint8, np.uint16, np.int16, np.float32, np.float64]),
        shape,
        elements=st.integers(0, 100),
    )
)
FILTERS = {
    "resize": lambda image, **k: resize(image, (17, 9), **k),
    "gaussian": lambda image, **k: gaussian_filter(image, (1.5, 0.7), **k),
    "median": median_filter_5x5,
}


def textured(shape=(45, 70), seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(IMAGES, st.tuples(SIDES, SIDES), st.booleans())
def test_resize_against_its_twin(image, shape, antialias):
    # float32 sums of values up to 100
    np.testing.assert_allclose(
        resize(image, shape, antialias=antialias), twin.resize(image, shape, antialias), atol=2e-4
    )


@settings(max_examples=40, deadline=None)
@given(IMAGES, st.floats(0, 4), st.floats(0, 4))
def test_gaussian_against_its_twin(image, sigma_y, sigma_x):
    np.testing.assert_allclose(
        gaussian_filter(image, (sigma_y, sigma_x)), twin.gaussian(image, sigma_y, sigma_x), atol=1e-4
    )


@settings(max_examples=60, deadline=None)
@given(IMAGES)
def test_median_against_its_twin(image):
    np.testing.assert_array_equal(median_filter_5x5(image), twin.median5x5(image).astype(np.float32))


@pytest.mark.parametrize("shape", [(45, 70), (64, 64), (33, 16), (5, 300)])
def test_median_of_random_numbers(shape):
    image = textured(shape)
    np.testing.assert_array_equal(median_filter_5x5(image), twin.median5x5(image))


@pytest.mark.parametrize("name", FILTERS)
class TestContract:
    def test_layout_does_not_matter(self, name):
        image = textured()
        expected = FILTERS[name](image)
        np.testing.assert_array_equal(FILTERS[name](np.asfortranarray(image)), expected)
        np.testing.assert_array_equal(FILTERS[name](np.repeat(image, 2, axis=1)[:, ::2]), expected)
        np.testing.assert_array_equal(FILTERS[name](image.astype(np.float64)), expected)

    def test_channels_are_filtered_alone(self, name):
        image = np.stack([textured(seed=1), textured(seed=2), textured(seed=3)], axis=-1)
        found = FILTERS[name](image)
        for channel in range(3):
            np.testing.assert_array_equal(found[..., channel], FILTERS[name](image[..., channel]))

    def test_input_is_left_alone(self, name):
        image = textured()
        before = image.copy()
        FILTERS[name](image)
        np.testing.assert_array_equal(image, before)

    def test_same_bits_for_any_number_of_threads(self, name):
        image = textured((130, 90))
        np.testing.assert_array_equal(FILTERS[name](image, n_threads=1), FILTERS[name](image, n_threads=3))

    def test_constant_stays_constant(self, name):
        np.testing.assert_allclose(FILTERS[name](np.full((20, 30), 7.0)), 7, rtol=1e-6)

    @pytest.mark.parametrize("wrong", [np.zeros(5), np.zeros((0, 4)), np.zeros((2, 2, 2, 2))])
    def test_other_shapes_are_refused(self, name, wrong):
        with pytest.raises(ValueError, match="image has shape"):
            FILTERS[name](wrong)

    def test_other_types_are_refused(self, name):
        with pytest.raises(TypeError, match="expected real numbers"):
            FILTERS[name](np.zeros((9, 9), complex))


def test_resizing_to_the_same_size_is_the_identity():
    np.testing.assert_array_equal(resize(textured(), (45, 70)), textured())


def test_wrong_parameters():
    with pytest.raises(ValueError, match="sigma is -1"):
        gaussian_filter(textured(), -1)
    with pytest.raises(ValueError, match="two positive sizes"):
        resize(textured(), (0, 5))
    with pytest.raises(ValueError, match="n_threads is -1"):
        resize(textured(), (5, 5), n_threads=-1)
