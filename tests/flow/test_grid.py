"""Unknowns on a grid that is coarser than the images."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflow import get_displacement
from pyflow._ext import _separable
from pyflow.flow.filters import enlarge_planes, gaussian_filter, resize_planes
from pyflow.flow.native import pyramid
from pyflow.flow.parameters import FlowParameters, auto_grid_spacing
from pyflow.simulate import jitter, simulate_recording


def scene(photons, seed, **conditions):
    recording = simulate_recording((160, 200), 4, photons=photons, rigid_px=3, nonrigid_px=1, seed=seed, **conditions)
    low, high = recording.template.min(), recording.template.max()

    def normalised(image):
        return gaussian_filter((image.astype(np.float32) - low) / (high - low), 1.0)

    return normalised(recording.template), [normalised(frame) for frame in recording.movie], recording.displacement_px


@pytest.mark.parametrize("photons", [4, 12, 40])
@pytest.mark.parametrize("alpha", [16, 60, 200])
@pytest.mark.parametrize("seed", [1, 2])
def test_auto_agrees_with_one_unknown_per_pixel(photons, alpha, seed):
    reference, frames, truth = scene(photons, seed)
    fine, coarse = (
        np.stack([get_displacement(reference, frame, alpha=alpha, grid_spacing=spacing) for frame in frames])
        for spacing in (1, "auto")
    )
    assert np.abs(fine - coarse).mean() < 0.1
    assert jitter(coarse, truth, 8) < 1.15 * jitter(fine, truth, 8) + 0.005


@pytest.mark.parametrize("shape", [(64, 512), (512, 64), (64, 200)])
def test_auto_agrees_on_narrow_images(shape):
    """With too few unknowns along the short side, coarse levels find what the finest cannot mend: errors of 0.2 px."""
    rng = np.random.default_rng(1)
    whole = np.exp(0.8 * _standardized(gaussian_filter(rng.standard_normal(np.add(shape, 8)), 1.7)))
    reference, moving = 20 * whole[4:-4, 4:-4], rng.poisson(20 * whole[2:-6, 5:-3])
    for alpha in (16, 40):
        fine, coarse = (
            np.abs(get_displacement(reference, moving, alpha=alpha, grid_spacing=spacing) - (-1, 2)).mean()
            for spacing in (1, "auto")
        )
        assert coarse < 1.15 * fine + 0.005


def _standardized(image):
    return (image - image.mean()) / image.std()


@pytest.mark.parametrize(
    ("digest", "options"),
    [
        ("1c9af860aae17fc8", {}),
        ("715ea31bda768474", {"alpha": 20, "min_level": 3}),
        ("51a19d1d367c4e23", {"alpha": 5, "a_smooth": 0.5, "eta": 0.6, "iterations": 12}),
        ("20487e859d16288c", {"const_assumption": "gray", "alpha": 0.02}),
        ("bd2174c46f43cfb6", {"const_assumption": "census"}),
    ],
)
def test_one_unknown_per_pixel_gives_the_bits_of_before_there_was_a_grid(digest, options):
    """The digests are from the last version that had one unknown per pixel only (the commit before b10c5e3)."""
    whole = gaussian_filter(np.random.default_rng(7).random((107, 131, 2)), 2.0)
    w = get_displacement(whole[4:-4, 4:-4], whole[3:-5, 6:-2], grid_spacing=1, **options)
    assert hashlib.blake2b(w.tobytes(), digest_size=8).hexdigest() == digest


def test_auto_follows_from_alpha():
    assert [auto_grid_spacing(alpha) for alpha in (0.1, 1.5, 3.9, 4, 15.9, 16, 1e6)] == [1, 1, 1, 2, 2, 4, 4]
    assert FlowParameters(alpha=(100, 5), grid_spacing="auto").grid_spacing == 2
    assert FlowParameters(alpha=100).grid_spacing == 1


@pytest.mark.parametrize("value", [0, 65, 1.5, "fine", None])
def test_other_spacings_are_refused(value):
    with pytest.raises(ValueError, match="grid_spacing"):
        FlowParameters(grid_spacing=value)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(2, 600), st.integers(2, 600)),
    st.floats(0.4, 0.95),
    st.integers(1, 64),
)
def test_a_grid_never_shrinks_from_level_to_level(shape, eta, spacing):
    grids = [(geometry.grid, geometry.shape) for _, geometry in pyramid(shape, eta, 100, 0, spacing)]
    for grid, level in grids:
        assert all(1 <= cells <= side for cells, side in zip(grid, level, strict=True))
    for (before, _), (after, _) in pairwise(grids):
        assert all(a <= b for a, b in zip(before, after, strict=True))


def test_identical_images_do_not_move():
    image = np.random.default_rng(0).random((90, 71))
    assert not get_displacement(image, image, grid_spacing=4, alpha=30).any()


@pytest.mark.parametrize("constancy", ["gc", "gray", "census"])
def test_a_known_shift_is_found(constancy):
    whole = gaussian_filter(np.random.default_rng(3).random((150, 130)), 3.0)
    whole = (whole - whole.min()) / np.ptp(whole)
    reference, moving = whole[10:-10, 10:-10], whole[7:-13, 12:-8]

    def found(**options):
        return get_displacement(reference, moving, alpha=0.05, const_assumption=constancy, **options)

    def error(w):
        return np.abs(w[12:-12, 12:-12] - (-2, 3)).mean()

    coarse = found(grid_spacing=3, n_threads=1)
    assert error(coarse) < 0.2
    np.testing.assert_array_equal(coarse, found(grid_spacing=3, n_threads=3))


def test_weight_maps_and_channels_reach_the_grid():
    """The half that has no weight does not count."""
    reference, (frame, *_), _ = scene(40, 4)
    spoiled = frame.copy()
    spoiled[:, 100:] = np.random.default_rng(0).random((160, 100))
    weight = np.ones(reference.shape, np.float32)
    weight[:, 92:] = 0
    found, clean = (
        get_displacement(reference, moving, alpha=20, grid_spacing=4, weight=weight) for moving in (spoiled, frame)
    )
    assert np.abs(found - clean)[:, :70].mean() < 0.05
    pair = [np.stack([image, image], axis=-1) for image in (reference, frame)]
    np.testing.assert_allclose(
        get_displacement(*pair, alpha=20, grid_spacing=4),
        get_displacement(reference, frame, alpha=20, grid_spacing=4),
        atol=2e-3,
    )


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 30), st.integers(1, 40)),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(1, 3),
)
def test_enlarging_is_resizing(shape, factors, n_threads):
    planes = np.random.default_rng(1).random((2, *shape), dtype=np.float32)
    target = tuple(side * factor for side, factor in zip(shape, factors, strict=True))
    np.testing.assert_allclose(
        enlarge_planes(planes, target, n_threads=n_threads), resize_planes(planes, target), atol=2e-6
    )


def test_enlarging_refuses_what_resizing_refuses():
    axis = np.zeros((2, 4), np.int32), np.zeros((2, 3), np.float32)
    empty = np.zeros((0, 4), np.int32), np.zeros((0, 4), np.float32)
    for y in (empty, (np.zeros((2, 3), np.int32), axis[1])):
        with pytest.raises(ValueError):
            _separable.map_separable(np.zeros((1, 3, 3), np.float32), *y, *y, np.zeros((1, 2, 2), np.float32), 1, True)
