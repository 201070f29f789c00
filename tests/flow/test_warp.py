"""Warps against their twins; invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import warp as twin

from pyflow.flow.filters import enlarge_field
from pyflow.flow.warp import (
    backward_valid_mask,
    compute_batch_valid_masks,
    imregister,
    imregister_binary,
    register_image,
    valid_mask,
)

RNG = np.random.default_rng(0)
SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 40))


def field(shape, seed, size=4.0):
    """Displacements of all kinds: smooth, noisy, whole, half, on the border, far outside."""
    rng = np.random.default_rng(seed)
    w = rng.normal(0, size, (*shape, 2)).astype(np.float32)
    kind = rng.integers(0, 4, shape)
    w[kind == 0] = np.rint(w[kind == 0])
    w[kind == 1] = 0.3
    w[rng.random(shape) < 0.02] = 1e9
    return w


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 10**6), st.sampled_from(["nearest", "linear", "cubic"]), st.booleans())
def test_warp_against_its_twin(shape, seed, interpolation, filled):
    image = np.random.default_rng(seed).random(shape).astype(np.float32)
    w = field(shape, seed)
    fill = image[::-1].copy() if filled else None
    expected = twin.warp(image, w[..., 0], w[..., 1], fill, interpolation)
    # float32; the border's ghost samples multiply values of order 1 by up to 49
    np.testing.assert_allclose(imregister(image, w, fill=fill, interpolation=interpolation), expected, atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 10**6))
def test_masks_against_their_twins(shape, seed):
    w = field(shape, seed, 2.0)
    mask = np.random.default_rng(seed).random(shape) < 0.5
    np.testing.assert_array_equal(valid_mask(w), twin.valid(w[..., 0], w[..., 1]))
    expected = twin.warp(mask, w[..., 0], w[..., 1], interpolation="nearest") != 0
    np.testing.assert_array_equal(imregister_binary(mask, w[..., 0], w[..., 1]), expected)


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64, bool])
def test_zero_displacement_returns_the_bits(interpolation, dtype):
    image = RNG.integers(0, 2 if dtype is bool else 100, (20, 31, 2)).astype(dtype)
    found = imregister(image, np.zeros((20, 31, 2)), interpolation=interpolation)
    np.testing.assert_array_equal(found, image)
    assert found.dtype == dtype


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("shift", [(0, 0), (3, -2)])
def test_a_spoiled_pixel_stays_one_where_whole_pixels_move(interpolation, shift):
    image = RNG.random((40, 60)).astype(np.float32)
    image[20, 30], image[2, 50], image[-1, -1] = np.nan, np.inf, np.nan
    found = imregister(image, np.broadcast_to(np.float32(shift), (40, 60, 2)), fill=image, interpolation=interpolation)
    u, v = shift
    expected = image.copy()
    expected[max(0, -v) :, : 60 - u] = image[: 40 + v, u:]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shift", [0.0, 1.0, -1.0])
def test_blocks_whose_displacements_differ_by_one_reach_no_further_than_the_image(shift):
    """A block in which one pixel's stencil begins a pixel further down needs a fifth row of samples."""
    height, width = 12, 48
    image = RNG.random((height, width)).astype(np.float32)
    u, v = np.zeros((2, height, width), np.float32)
    v[:] = shift + 0.25
    v[:, ::3] += 1
    expected = twin.warp(image, u, v, image)
    found = imregister(image, np.stack([u, v], axis=-1), fill=image)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic"])
def test_whole_pixels_move_whole_pixels(interpolation):
    image = RNG.random((20, 30)).astype(np.float32)
    w = np.broadcast_to(np.float32([3, -2]), (20, 30, 2))
    found = imregister(image, w, fill=np.full_like(image, -1), interpolation=interpolation)
    np.testing.assert_array_equal(found[2:, :-3], image[:-2, 3:])
    assert (found[:2] == -1).all()
    assert (found[:, -3:] == -1).all()
    np.testing.assert_array_equal(found == -1, ~valid_mask(w))


def test_cubic_reproduces_parabolas_up_to_the_border():
    y, x = np.mgrid[:20, :30].astype(float)
    parabola = 0.5 * y**2 - y * x + 0.1 * x**2 + 3
    w = RNG.uniform(-3, 3, (20, 30, 2)).astype(np.float32)
    u, v = w[..., 0], w[..., 1]
    expected = 0.5 * (y + v) ** 2 - (y + v) * (x + u) + 0.1 * (x + u) ** 2 + 3
    inside = valid_mask(w)
    # float32 of values up to 600
    np.testing.assert_allclose(imregister(parabola, w)[inside], expected[inside], atol=5e-3)


def test_integers_are_rounded_and_clipped():
    image = np.zeros((8, 8), np.uint8)
    image[:, 4:] = 255
    w = np.full((8, 8, 2), 0.5)
    exact = imregister(image.astype(np.float32), w)
    assert exact.max() > 255
    assert exact[valid_mask(w)].min() < 0
    np.testing.assert_array_equal(imregister(image, w), np.clip(np.rint(exact), 0, 255))


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("shape", [(3, 16), (5, 37), (40, 64)])
def test_blocks_and_single_pixels_have_the_same_bits(shape, interpolation):
    """Also where stencils cross the border: one pixel that differs much makes its whole block single pixels."""
    image, fill = (RNG.random((2, *shape)) * 1000 - 300).astype(np.float32)
    w = (np.full((*shape, 2), (2.25, -0.5)) + 0.7 * RNG.random((*shape, 2))).astype(np.float32)
    w[::5] *= -1
    apart = w.copy()
    apart[:, ::8] += 9
    same = np.delete(np.arange(shape[1]), np.s_[::8])
    found, alone = (imregister(image, field, fill=fill, interpolation=interpolation)[:, same] for field in (w, apart))
    np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("shape", [(30, 41), (30, 41, 2)])
def test_integers_are_those_of_the_exact_values(dtype, shape):
    limits = np.iinfo(dtype)
    image = RNG.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    fill = RNG.uniform(1.2 * limits.min - 5, 1.2 * limits.max, shape).astype(np.float32)
    w = field(shape[:2], 5, 2.0)
    exact = imregister(image.astype(np.float32), w, fill=fill)
    found = imregister(image, w, fill=fill)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.clip(np.rint(exact), limits.min, limits.max).astype(dtype))
    swapped = imregister(image.astype(image.dtype.newbyteorder()), w, fill=fill)
    np.testing.assert_array_equal(swapped, found)


def test_nan_displacement_is_outside():
    w = np.full((5, 5, 2), np.nan)
    assert not valid_mask(w).any()
    np.testing.assert_array_equal(imregister(np.ones((5, 5)), w, fill=np.full((5, 5), 3.0)), 3)


def test_same_bits_for_any_number_of_threads():
    image, w = RNG.random((70, 50, 2)), field((70, 50), 3)
    for one, three in (
        (imregister(image, w, n_threads=1), imregister(image, w, n_threads=3)),
        (valid_mask(w, n_threads=1), valid_mask(w, n_threads=3)),
    ):
        np.testing.assert_array_equal(one, three)


def test_layout_does_not_matter_and_input_is_left_alone():
    image, w = RNG.random((20, 30)), field((20, 30), 5)
    before = image.copy(), w.copy()
    expected = imregister(image, w)
    np.testing.assert_array_equal(imregister(np.asfortranarray(image), np.asfortranarray(w)), expected)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(w, before[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: imregister(np.zeros((5, 6)), np.zeros((5, 5, 2))), r"w has shape \(5, 5, 2\), expected \(5, 6, 2\)"),
        (lambda: imregister(np.zeros((5, 5)), np.zeros((5, 5, 2)), fill=np.zeros((5, 4))), "fill has shape"),
        (lambda: imregister(np.zeros((5, 5)), np.zeros((5, 5, 2)), interpolation="spline"), "cubic"),
        (lambda: imregister_binary(np.zeros((5, 5, 2)), np.zeros((5, 5)), np.zeros((5, 5))), "mask has shape"),
        (lambda: valid_mask(np.zeros((5, 5))), "w has shape"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(0, 10**6))
def test_what_is_seen_on_the_way(shape, seed):
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 4, (*shape, 2)).astype(np.float32)
    image = rng.random((*shape, 2)).astype(np.float32)
    found = register_image(image, w, fill=image[::-1])
    np.testing.assert_array_equal(found.image, imregister(image, w, fill=image[::-1]))
    np.testing.assert_array_equal(found.valid, valid_mask(w))
    u, v = np.moveaxis(w.astype(float), -1, 0)
    lengths = np.hypot(u, v)
    divergence = sum(np.diff(part, axis=axis).mean() if part.shape[axis] > 1 else 0 for axis, part in ((1, u), (0, v)))
    np.testing.assert_allclose(
        (found.mean_length, found.largest_length, *found.mean, found.mean_divergence),
        (lengths.mean(), lengths.max(), u.mean(), v.mean(), divergence),
        rtol=1e-5,
        atol=1e-5,
    )


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.tuples(st.integers(1, 5), st.integers(1, 5)), st.integers(0, 10**6), st.integers(1, 3))
def test_a_coarser_field_has_the_bits_of_the_enlarged_one(grid, factors, seed, n_threads):
    shape = tuple(side * factor for side, factor in zip(grid, factors, strict=True))
    rng = np.random.default_rng(seed)
    field = rng.normal(0, 4, (*grid, 2)).astype(np.float32)
    image = rng.random(shape).astype(np.float32)
    whole = register_image(image, enlarge_field(field, shape), fill=image)
    found = register_image(image, field, fill=image, n_threads=n_threads)
    np.testing.assert_array_equal(found.image, whole.image)
    np.testing.assert_array_equal(found.valid, whole.valid)
    assert (found.mean_length, found.largest_length, found.mean) == (
        whole.mean_length,
        whole.largest_length,
        whole.mean,
    )


def test_masks_of_components_and_of_batches():
    w = np.random.default_rng(3).uniform(-4, 4, (3, 9, 11, 2)).astype(np.float32)
    expected = np.stack([twin.valid(field[..., 0], field[..., 1]) for field in w])
    np.testing.assert_array_equal(compute_batch_valid_masks(w), expected * np.uint8(255))
    assert compute_batch_valid_masks(w).dtype == np.uint8
    for field, mask in zip(w, expected, strict=True):
        np.testing.assert_array_equal(backward_valid_mask(field[..., 0], field[..., 1]), mask)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: backward_valid_mask(np.zeros((3, 4)), np.zeros((4, 3))), r"u has shape \(3, 4\) and v \(4, 3\)"),
        (lambda: compute_batch_valid_masks(np.zeros((3, 4, 2))), r"\(3, 4, 2\), expected \(T, H, W, 2\)"),
        (lambda: compute_batch_valid_masks(np.zeros((2, 3, 4, 3))), r"expected \(T, H, W, 2\)"),
    ],
)
def test_masks_of_other_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
