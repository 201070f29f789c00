"""Motion tensor against its twin and the MATLAB toolbox."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference import split
from reference import tensor as twin

from pyflow._ext import _tensor

# float32 carries seven digits; second derivatives of nearly equal values lose two to three of them
FLOAT32 = 2e-4


def tensor(f1, f2, spacing=(1.0, 1.0), constancy="gc", zeta=1e-6, n_threads=1, cells=None):
    cells = cells or f1.shape
    layout = np.zeros(_tensor.layout_shape(*cells), np.float32)
    images = (np.ascontiguousarray(image, np.float32) for image in (f1, f2))
    _tensor.motion_tensor(*images, *cells, *spacing, _tensor.CONSTANCIES[constancy], zeta, layout, n_threads)
    return split.merge(layout, cells[1])


def assert_agrees(found, expected, made_of=None):
    """Each component, relative to its largest value, or to the largest that went into it."""
    made_of = expected if made_of is None else made_of
    for name, one, other, parts in zip(twin.PLANES, found, expected, made_of, strict=True):
        scale = max(np.abs(parts).max(), 1e-12)
        np.testing.assert_allclose(one / scale, other / scale, atol=FLOAT32, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 20), st.integers(1, 40)),
    st.integers(0, 10**6),
    st.sampled_from(["gc", "gray", "census"]),
    st.tuples(st.floats(0.5, 4), st.floats(0.5, 4)),
)
def test_against_its_twin(shape, seed, constancy, spacing):
    f1, f2 = np.random.default_rng(seed).random((2, *shape), dtype=np.float32)
    # zeta of the size of the derivatives: with the default, rounding in flat places is all there is to compare
    expected = twin.motion_tensor(f1, f2, *spacing, constancy, zeta=1e-2)
    assert_agrees(tensor(f1, f2, spacing, constancy, zeta=1e-2), expected)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 20), st.integers(1, 40)),
    st.tuples(st.integers(1, 20), st.integers(1, 40)),
    st.integers(0, 10**6),
    st.sampled_from(["gc", "gray", "census"]),
    st.integers(1, 3),
)
@example((2, 2), (1, 1), 0, "gc", 1)
def test_cells_hold_the_mean_of_their_pixels(shape, cells, seed, constancy, n_threads):
    cells = tuple(min(pair) for pair in zip(shape, cells, strict=True))
    f1, f2 = np.random.default_rng(seed).random((2, *shape), dtype=np.float32)
    pixels = twin.motion_tensor(f1, f2, 1.0, 2.0, constancy, zeta=1e-2)
    rows, cols = ([i * size // n for i in range(n + 1)] for size, n in zip(shape, cells, strict=True))
    expected = [[[plane[a:b, c:d].mean() for c, d in pairwise(cols)] for a, b in pairwise(rows)] for plane in pixels]
    found = tensor(f1, f2, (1.0, 2.0), constancy, zeta=1e-2, n_threads=n_threads, cells=cells)
    assert_agrees(found, np.array(expected), made_of=pixels)  # a mean is as exact as what cancels in it


@pytest.mark.parametrize("case", [1, 2, 3])
def test_against_the_toolbox(shared, case):
    with np.load(shared / "reference" / "flow_reference.npz") as data:
        images = [np.atleast_3d(data[f"tensor{case}_f{k}"]) for k in (1, 2)]
        spacing = (float(data[f"tensor{case}_spacing"]),) * 2
        for channel in range(images[0].shape[2]):
            expected = [data[f"tensor{case}_{name}"][..., channel] for name in twin.PLANES]
            assert all((plane[[0, -1]] == 0).all() and (plane[:, [0, -1]] == 0).all() for plane in expected)
            found = tensor(*(image[..., channel] for image in images), spacing)
            assert_agrees(found, [plane[1:-1, 1:-1] for plane in expected])


@pytest.mark.parametrize("pair", ["p1", "p2", "p3"])
@pytest.mark.parametrize("grid", ["h1", "h2"])
def test_against_the_toolbox_on_uneven_grids(shared, pair, grid):
    folder = shared / "reference" / "toolbox"
    with np.load(folder / "inputs_pairs.npz") as inputs, np.load(folder / "a_motion_tensor.npz") as data:
        cases = json.loads(str(data["params_json"]))["cases"]
        fixed, moving = (np.atleast_3d(inputs[f"{pair}_{name}"]) for name in ("fixed", "moving"))
        for channel in range(fixed.shape[2]):
            name = f"{pair}_ch{channel + 1}_{grid}"
            found = tensor(fixed[..., channel], moving[..., channel], (cases[name]["hy"], cases[name]["hx"]))
            assert_agrees(found, np.moveaxis(data[name][1:-1, 1:-1], -1, 0))


def test_identical_images_have_no_residual():
    image = np.random.default_rng(0).random((20, 31), dtype=np.float32)
    for constancy in _tensor.CONSTANCIES:
        assert not tensor(image, image, constancy=constancy)[[2, 4, 5]].any()


@pytest.mark.parametrize("constancy", _tensor.CONSTANCIES)
def test_same_bits_for_any_number_of_threads(constancy):
    f1, f2 = np.random.default_rng(0).random((2, 70, 41), dtype=np.float32)
    one, three = (tensor(f1, f2, constancy=constancy, n_threads=n) for n in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_census_sees_only_which_neighbour_is_brighter():
    rng = np.random.default_rng(0)
    f1, f2 = (rng.permutation(40 * 41).reshape(40, 41) / 1640 for _ in range(2))  # no two alike
    found = tensor(f1, np.exp(2 * f2), constancy="census", zeta=1e-12)
    assert_agrees(found, tensor(f1, f2, constancy="census", zeta=1e-12))


@pytest.mark.parametrize("wrong", [{"zeta": 0.0}, {"spacing": (0.0, 1.0)}, {"spacing": (1.0, -1.0)}])
def test_parameters_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match="motion_tensor: parameter outside its range"):
        tensor(np.ones((5, 5)), np.ones((5, 5)), **wrong)
