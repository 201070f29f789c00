"""Level solver against its twin and the MATLAB toolbox's fixed points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import solver as twin
from reference import split
from reference.tensor import PLANES, motion_tensor
from scipy.ndimage import gaussian_filter

from pyflow._ext import _solver


def solve(tensors, u, v, *, n_threads=1, **parameters):
    parameters = {"weight_map": None, **parameters}
    for name in ("a_data", "weight", "weight_map"):
        if parameters[name] is not None:
            parameters[name] = np.ascontiguousarray(parameters[name], np.float32)
    params = _solver.LevelParams(shape=u.shape, **parameters)
    u, v = (np.ascontiguousarray(field, np.float32) for field in (u, v))
    du, dv = np.empty_like(u), np.empty_like(v)
    layout = np.stack([split.split(one) for one in tensors])
    scratch = np.zeros(params.scratch_size(n_threads), np.float32)
    _solver.solve(params, layout, u, v, du, dv, scratch, n_threads)
    return du, dv


def problem(shape, n_channels, seed=0):
    """Tensors (C, 6, H, W) of images that moved by about half a pixel, and a current displacement."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal((2 * n_channels, *shape)), (0, 1.5, 1.5)) * 5
    tensors = np.stack(
        [motion_tensor(a, 0.9 * a + 0.1 * b, 1, 1, "gc", 1e-3) for a, b in zip(smooth[::2], smooth[1::2], strict=True)]
    )
    u, v = 0.2 * gaussian_filter(rng.standard_normal((2, *shape)), (0, 3, 3))
    return tensors.astype(np.float32), u.astype(np.float32), v.astype(np.float32)


def parameters(n_channels=1, **changes):
    return {
        "spacing": (1.0, 1.0),
        "alpha": (1.5, 1.5),
        "a_smooth": 1.0,
        "a_data": [0.45] * n_channels,
        "weight": [1 / n_channels] * n_channels,
        "iterations": 8,
        "update_lag": 3,
        **changes,
    }


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(2, 40), st.integers(2, 70)),
    st.integers(0, 10**6),
    st.integers(1, 3),
    st.sampled_from([1.0, 0.5, 0.8]),
    st.sampled_from([1.0, 0.45]),
    st.booleans(),
)
def test_against_its_twin(shape, seed, n_channels, a_smooth, a_data, mapped):
    tensors, u, v = problem(shape, n_channels, seed)
    rng = np.random.default_rng(seed)
    p = parameters(
        n_channels,
        a_smooth=a_smooth,
        a_data=[a_data, 0.6, 0.45][:n_channels],
        spacing=tuple(rng.uniform(0.7, 2, 2)),
        alpha=tuple(rng.uniform(0.5, 5, 2)),
        weight=rng.uniform(0.1, 1, n_channels),
        weight_map=rng.random((n_channels, *shape)) if mapped else None,
    )
    expected = twin.solve(tensors.astype(float), u.astype(float), v.astype(float), **p)
    # float32 of displacements of order 1, over-relaxed
    np.testing.assert_allclose(solve(tensors, u, v, **p), expected, atol=2e-3 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("shape", [(2, 2), (1, 2), (2, 1), (1, 40), (40, 1), (3, 33), (17, 16)])
@pytest.mark.parametrize("a_smooth", [1.0, 0.5])
def test_thin_levels(shape, a_smooth):
    tensors, u, v = problem(shape, 1)
    expected = twin.solve(tensors.astype(float), u.astype(float), v.astype(float), **parameters(a_smooth=a_smooth))
    np.testing.assert_allclose(solve(tensors, u, v, **parameters(a_smooth=a_smooth)), expected, atol=1e-4)


@pytest.mark.parametrize("case", [3, 4, 5])
@pytest.mark.parametrize("tensor", [1, 2, 3])
def test_reaches_the_fixed_point_of_the_toolbox(shared, tensor, case):
    """1e-3 px is asked for; float32 gets within 6e-5 px."""
    with np.load(shared / "reference" / "flow_reference.npz") as data:
        inner = (slice(1, -1), slice(1, -1))
        tensors = np.stack([data[f"tensor{tensor}_{name}"][inner] for name in PLANES])
        n_channels = tensors.shape[-1]
        p = parameters(
            spacing=(float(data[f"tensor{tensor}_spacing"]),) * 2,
            alpha=tuple(data[f"case{case}_alpha_xy"]),
            a_smooth=float(data[f"case{case}_a_smooth"]),
            a_data=[float(data[f"case{case}_a_data"])] * n_channels,
            weight=data[f"tensor{tensor}_weight"],
            iterations=int(data[f"case{case}_iterations"]),
            update_lag=int(data[f"case{case}_update_lag"]),
        )
        u, v = (data[f"tensor{tensor}_{name}"][inner] for name in ("u0", "v0"))
        found = solve(np.moveaxis(tensors, -1, 0), u, v, **p)
        expected = [data[f"solver{tensor}_{case}_{name}"][inner] for name in ("du", "dv")]
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("a_smooth", [1.0, 0.5])
@pytest.mark.parametrize("lag", [1, 3, 20])
def test_same_bits_for_any_number_of_threads(a_smooth, lag):
    tensors, u, v = problem((97, 130), 2)
    p = parameters(2, a_smooth=a_smooth, iterations=20, update_lag=lag)
    one = solve(tensors, u, v, n_threads=1, **p)
    for n_threads in (2, 3, 5):
        np.testing.assert_array_equal(solve(tensors, u, v, n_threads=n_threads, **p), one)


def test_scratch_can_hold_anything_finite():
    tensors, u, v = problem((30, 45), 1)
    params = _solver.LevelParams(
        (30, 45), (1.0, 1.0), (1.5, 1.5), 0.5, np.float32([0.45]), np.float32([1]), None, 10, 5
    )
    layout = np.stack([split.split(one) for one in tensors])
    results = []
    for filler in (0, 12345.0):
        du, dv = np.empty_like(u), np.empty_like(v)
        _solver.solve(params, layout, u, v, du, dv, np.full(params.scratch_size(1), filler, np.float32), 1)
        results.append((du, dv))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"update_lag": 0}, {"alpha": (0.0, 1.0)}, {"a_smooth": 0.0}])
def test_parameters_outside_their_range_are_refused(wrong):
    tensors, u, v = problem((5, 6), 1)
    with pytest.raises(ValueError, match="solve: parameter outside its range"):
        solve(tensors, u, v, **parameters(**wrong))
