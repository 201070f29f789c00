"""Whole flows: invariants, known motion, and the MATLAB toolbox's results."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from pyflow._ext import _simd
from pyflow.flow import native
from pyflow.flow.displacement import get_displacement, prepare
from pyflow.flow.native import pyramid
from pyflow.flow.parameters import FlowParameters
from pyflow.flow.planes import to_planes
from pyflow.flow.warp import imregister

BORDER = 12


def texture(shape, seed=0, n_channels=1, blur=1.5):
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.standard_normal((*shape, n_channels)), (blur, blur, 0))
    image = (image - image.min()) / np.ptp(image)
    return image[..., 0] if n_channels == 1 else image


def moved(image, w):
    """Image whose backward displacement onto `image` is about w, for smooth w."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    planes = [
        map_coordinates(plane, (rows - w[..., 1], columns - w[..., 0]), order=3, mode="nearest")
        for plane in np.moveaxis(np.atleast_3d(image), -1, 0)
    ]
    return np.stack(planes, axis=-1).reshape(image.shape)


def pair(shape=(96, 120), seed=0, shift=(2.3, -1.6), n_channels=1, blur=1.5):
    """Reference, moving image and true displacement: a shift."""
    w = np.broadcast_to(np.float32(shift), (*shape, 2))
    reference = texture(shape, seed, n_channels, blur)
    return reference, moved(reference, w), w


def endpoint_error(w, truth):
    inner = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    return np.hypot(*np.moveaxis((w - truth)[inner], -1, 0)).mean()


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("const_assumption", ["gc", "gray", "census"])
@pytest.mark.parametrize("a_smooth", [1.0, 0.5])
@pytest.mark.parametrize("quality", ["quality", "balanced"])
def test_identical_images_give_exactly_zero(n_channels, const_assumption, a_smooth, quality):
    image = texture((60, 83), n_channels=n_channels)
    w = get_displacement(image, image, const_assumption=const_assumption, a_smooth=a_smooth, quality=quality)
    assert w.shape == (60, 83, 2)
    assert w.dtype == np.float32
    assert not w.any()


@pytest.mark.parametrize("shift", [(2.3, -1.6), (-6.0, 4.5), (0.25, 0.0)])
@pytest.mark.parametrize(("quality", "within"), [("quality", 0.1), ("balanced", 0.15), ("fast", 0.25)])
def test_a_shift_is_found(shift, quality, within):
    reference, moving, truth = pair((128, 160), shift=shift, blur=4.0)
    assert endpoint_error(get_displacement(reference, moving, quality=quality), truth) < within


def test_without_a_pyramid_rounds_at_full_size_find_what_one_does_not():
    reference, moving, truth = pair(shift=(3.0, -2.0))
    errors = [endpoint_error(get_displacement(reference, moving, eta=1, levels=n), truth) for n in (1, 4)]
    assert errors[1] < 0.1 < errors[0]


def test_further_warps_on_each_level_find_what_one_misses():
    """Of two levels with few sweeps each; and a single step is what there always was."""
    reference, moving, truth = pair(shift=(3.0, -2.0))
    once, again = (
        get_displacement(reference, moving, eta=0.5, levels=1, iterations=10, warping_steps=n) for n in (1, 4)
    )
    assert endpoint_error(again, truth) < 0.5 * endpoint_error(once, truth)
    np.testing.assert_array_equal(get_displacement(reference, moving, eta=0.5, levels=1, iterations=10), once)


def test_a_bent_field_is_found():
    y, x = np.mgrid[:128, :128] / 128 * 2 * np.pi
    truth = np.stack([2 * np.sin(x + y), 1.5 * np.cos(x - 0.5 * y)], axis=-1)
    reference = texture((128, 128))
    rows, columns = np.mgrid[:128, :128]
    # reference(p) = moving(p + w) exactly: sample the reference from the moving image
    sampled = map_coordinates(reference, (rows + truth[..., 1], columns + truth[..., 0]), order=3, mode="nearest")
    assert endpoint_error(get_displacement(sampled, reference), truth) < 0.1


@pytest.mark.parametrize("const_assumption", ["gc", "census"])
def test_noise_is_smoothed_over(const_assumption):
    reference, moving, truth = pair((128, 160), blur=2)
    noisy = moving + np.random.default_rng(1).normal(0, 0.1, moving.shape)
    images = gaussian_filter(reference, 1), gaussian_filter(noisy, 1)
    w = get_displacement(*images, alpha=60, const_assumption=const_assumption, min_level=2)
    assert endpoint_error(w, truth) < 0.1


def brighter_in_one_place(image):
    """Gain, offset and gamma rise towards the middle."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(rows - image.shape[0] / 2, columns - image.shape[1] / 2)
    rise = np.exp(-0.5 * (distance / 15) ** 2)
    return (1 + rise) * image ** (1 + 0.5 * rise) + 0.5 * rise


def test_census_survives_a_local_change_of_brightness_that_breaks_gray():
    reference, moving, truth = pair((128, 148), blur=2)
    lit = brighter_in_one_place(moving)
    gray = [get_displacement(reference, image, alpha=0.1, const_assumption="gray") for image in (moving, lit)]
    assert endpoint_error(gray[0], truth) < 0.05
    assert endpoint_error(gray[1], truth) > 0.4
    census = [get_displacement(reference, image, alpha=5, const_assumption="census") for image in (moving, lit)]
    assert endpoint_error(census[0], truth) < 0.05
    assert endpoint_error(census[1], truth) < 0.1


def test_graduated_robustness_finds_what_robust_smoothness_alone_does_not():
    reference, moving, truth = pair((128, 128), shift=(9.0, -7.0), blur=2)
    robust = {"alpha": 5, "a_data": 0.2, "a_smooth": 0.5}
    inner = (slice(20, -20), slice(20, -20))
    alone = get_displacement(reference, moving, **robust)[inner]
    graduated = get_displacement(reference, moving, gnc_schedule=(0, 1), **robust)[inner]
    assert endpoint_error(alone, truth[inner]) > 1
    assert endpoint_error(graduated, truth[inner]) < 0.05


def test_a_schedule_moves_the_exponents_from_level_to_level(monkeypatch):
    found = []

    def recorder(shape, spacing, alpha, a_smooth, a_data, *rest):
        found.append((a_smooth, *a_data))
        return level_params(shape, spacing, alpha, a_smooth, a_data, *rest)

    level_params = native._solver.LevelParams
    monkeypatch.setattr(native._solver, "LevelParams", recorder)
    prepare(np.zeros((20, 20, 2)), FlowParameters(levels=2, a_smooth=0.5, a_data=[0.4, 1], gnc_schedule=[0, 1]))
    np.testing.assert_allclose(found, [(1, 1, 1), (0.75, 0.7, 1), (0.5, 0.4, 1)], rtol=1e-6)
    found.clear()
    prepare(np.zeros((20, 20)), FlowParameters(levels=2, a_smooth=0.5, gnc_schedule=(0, 0, 1, 1, 1)))
    np.testing.assert_allclose(found, [(1, 1), (0.5, 0.45), (0.5, 0.45)], rtol=1e-6)
    found.clear()
    prepare(np.zeros((20, 20)), FlowParameters(levels=2, min_level=2, gnc_schedule=(0, 1)))
    np.testing.assert_allclose(found, [(1, 0.45)], rtol=1e-6)


def test_a_schedule_of_quadratic_penalties_changes_nothing():
    reference, moving, _ = pair((60, 60))
    plain, scheduled = (get_displacement(reference, moving, a_data=1, gnc_schedule=s) for s in (None, (0, 0.5, 1)))
    np.testing.assert_array_equal(scheduled, plain)


def test_registering_brings_the_images_together():
    reference, moving, _ = pair()
    registered = imregister(moving, get_displacement(reference, moving), fill=reference)
    assert np.abs(registered - reference).mean() < 0.1 * np.abs(moving - reference).mean()


def test_moving_both_images_moves_the_field_and_nothing_else():
    reference, moving, _ = pair((130, 140))
    whole = get_displacement(reference, moving, alpha=5)
    part = get_displacement(reference[8:, 5:], moving[8:, 5:], alpha=5)
    # the borders, and with them the pyramid's grids, differ
    difference = np.abs(part - whole[8:, 5:])[20:-20, 20:-20]
    assert difference.mean() < 0.02


def test_transposing_swaps_the_components():
    reference, moving, _ = pair((90, 90))
    w = get_displacement(reference, moving)
    turned = get_displacement(reference.T, moving.T)
    # u is updated before v on each pixel: equal up to what 50 sweeps at omega 1.95 leave unconverged
    assert np.abs(turned.transpose(1, 0, 2)[..., ::-1] - w).mean() < 0.05


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"a_smooth": 0.5, "gnc_schedule": (0, 1)},
        {"quality": "balanced"},
        {"alpha": (2, 5)},
        {"const_assumption": "gray"},
        {"const_assumption": "census"},
    ],
    ids=str,
)
def test_same_bits_for_any_number_of_threads(settings):
    reference, moving, _ = pair((270, 280), n_channels=2)
    one = get_displacement(reference, moving, n_threads=1, iterations=11, **settings)
    np.testing.assert_array_equal(get_displacement(reference, moving, n_threads=2, iterations=11, **settings), one)
    np.testing.assert_array_equal(get_displacement(reference, moving, n_threads=0, iterations=11, **settings), one)


def test_calls_at_the_same_time_do_not_meet():
    reference = texture((80, 90))
    frames = [moved(reference, np.broadcast_to(np.float32((t / 3, -t / 5)), (80, 90, 2))) for t in range(12)]
    prepared = prepare(reference, FlowParameters())
    planes = np.stack([to_planes(frame) for frame in frames])
    alone = prepared.estimate(planes)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(prepared.estimate, planes[:, np.newaxis]))
    np.testing.assert_array_equal(np.concatenate(together), alone)
    np.testing.assert_array_equal(get_displacement(reference, frames[5]), alone[5])


def test_the_reference_is_kept():
    reference, moving, _ = pair((50, 60))
    reference, moving = reference.astype(np.float32), moving.astype(np.float32)
    prepared = prepare(reference, FlowParameters())
    expected = prepared.estimate(moving[np.newaxis, np.newaxis])
    reference[:] = 0
    np.testing.assert_array_equal(prepared.estimate(moving[np.newaxis, np.newaxis]), expected)


def test_layout_dtype_and_input():
    reference, moving, _ = pair((50, 60))
    before = reference.copy(), moving.copy()
    expected = get_displacement(reference, moving)
    np.testing.assert_array_equal(get_displacement(np.asfortranarray(reference), moving[::-1][::-1]), expected)
    np.testing.assert_array_equal(get_displacement(reference.astype("f4"), moving.astype("f4")), expected)
    np.testing.assert_array_equal(reference, before[0])
    np.testing.assert_array_equal(moving, before[1])


def test_a_start_helps_where_motion_is_large():
    reference, moving, truth = pair((120, 120), shift=(25.0, -18.0))
    started = get_displacement(reference, moving, uv=truth, quality="quality")
    assert endpoint_error(started[30:-30, 30:-30], truth[30:-30, 30:-30]) < 0.1


@pytest.mark.parametrize("levels", [1, 3])
def test_a_start_counts_on_the_coarsest_level(levels):
    """One level cannot find 3 px by itself; from the truth there is nothing left to find."""
    reference, moving, truth = pair((120, 120), shift=(3.0, -2.0))
    settings = {"levels": levels, "min_level": levels}
    started = get_displacement(reference, moving, uv=truth, **settings)
    blind = get_displacement(reference, moving, **settings)
    like_the_toolbox = get_displacement(reference, moving, uv=truth, warp_start=False, **settings)
    assert endpoint_error(started, truth) < 0.1
    assert endpoint_error(blind, truth) > 0.2
    assert endpoint_error(like_the_toolbox, truth) > 0.2


def test_a_start_of_zero_is_no_start():
    reference, moving, _ = pair((60, 60))
    started = get_displacement(reference, moving, uv=np.zeros((60, 60, 2)))
    np.testing.assert_array_equal(started, get_displacement(reference, moving))


def test_a_weight_map_ignores_what_it_weighs_with_nothing():
    reference, moving, truth = pair((100, 100))
    spoiled = moving.copy()
    spoiled[40:60, 40:60] = texture((20, 20), seed=9)
    weight = np.ones((100, 100))
    weight[36:64, 36:64] = 1e-6
    hole = (slice(40, 60), slice(40, 60))
    blind = get_displacement(reference, spoiled)[hole] - truth[hole]
    told = get_displacement(reference, spoiled, weight=weight)[hole] - truth[hole]
    assert np.abs(told).mean() < 0.5 * np.abs(blind).mean()


def test_weights_per_channel_and_as_a_map_agree():
    reference, moving, _ = pair((60, 60), n_channels=2)
    listed = get_displacement(reference, moving, weight=[0.7, 0.3])
    mapped = get_displacement(reference, moving, weight=np.broadcast_to([0.7, 0.3], (60, 60, 2)))
    # a map is resized to each level, which rounds
    np.testing.assert_allclose(mapped, listed, atol=2e-2)


@pytest.mark.parametrize("shape", [(2, 2), (3, 9), (9, 200), (300, 12), (11, 11)])
def test_small_and_thin_images(shape):
    reference, moving, _ = pair(shape, shift=(0.2, 0.1))
    assert np.isfinite(get_displacement(reference, moving)).all()
    assert np.isfinite(get_displacement(reference, moving, quality="fast")).all()


def test_levels_of_the_pyramid():
    found = pyramid((512, 256), 0.8, 100, 0)
    assert [number for number, _ in found] == list(range(17, -1, -1))
    shapes = [geometry.shape for _, geometry in found]
    assert shapes[-1] == (512, 256)
    assert shapes[0] == (12, 11)  # the shorter axis stops at its own depth
    assert all(min(shape) >= 10 for shape in shapes)
    assert found[0][1].spacing == (512 / 12, 256 / 11)
    assert [number for number, _ in pyramid((512, 512), 0.8, 3, 1)] == [3, 2, 1]
    assert [number for number, _ in pyramid((16, 16), 0.8, 100, 6)] == [2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0}, "alpha is 0, expected a number from 1e-06"),
        ({"alpha": (1, 2, 3)}, "a pair"),
        ({"eta": 1.01}, "eta is 1.01"),
        ({"warping_steps": 0}, "warping_steps is 0"),
        ({"iterations": 0}, "iterations is 0, expected a whole number from 1 to 100000"),
        ({"iterations": 2.5}, "iterations is 2.5, expected a whole number"),
        ({"update_lag": 0}, "update_lag is 0"),
        ({"update_lag": 600, "iterations": 600}, "update_lag is 600, expected a whole number from 1 to 500"),
        ({"min_level": -1}, "min_level is -1"),
        ({"quality": "best"}, "quality is 'best', expected one of quality, balanced, fast"),
        ({"const_assumption": "colour"}, "const_assumption is 'colour', expected one of gc, gray, census"),
        ({"gnc_schedule": [1]}, r"gnc_schedule is \[1\], expected numbers that never fall"),
        ({"gnc_schedule": (0, 0.5)}, "the last 1"),
        ({"gnc_schedule": (0.1, 1)}, "the first 0"),
        ({"gnc_schedule": (0, 2, 1)}, "never fall"),
        ({"gnc_schedule": (0, float("nan"), 1)}, "never fall"),
        ({"a_data": [0.4, 0.4]}, "a_data has 2 values for 1 channels"),
        ({"a_smooth": 0}, "a_smooth is 0, expected a number from 0.01 to 1"),
        ({"a_smooth": 2}, "a_smooth is 2"),
        ({"a_data": 8}, "a_data is 8.*, expected a number from 0.01 to 1"),
        ({"a_data": []}, "at least one number"),
        ({"warp_start": "no"}, "warp_start is 'no'"),
        ({"weight": [1, 2]}, "weight has 2 values for 1 channels"),
        ({"weight": [-1]}, "not negative"),
        ({"weight": np.ones((3, 3))}, r"weight map has shape \(3, 3\)"),
        ({"uv": np.zeros((3, 3, 2))}, "uv has shape"),
        ({"uv": np.full((20, 20, 2), np.nan)}, "uv holds values that are not finite"),
        ({"backend": "abacus"}, "backend is 'abacus', expected one of flowreg"),
        ({"n_threads": -2}, "n_threads is -2"),
        ({"moving": np.zeros((20, 21))}, r"moving has shape \(20, 21\), the reference has \(20, 20\)"),
        ({"moving": np.full((20, 20), np.inf)}, "moving holds values that are not finite"),
        ({"reference": np.full((20, 20), np.nan)}, "reference holds values that are not finite"),
        ({"reference": np.zeros((1, 20)), "moving": np.zeros((1, 20))}, "both sides must have at least 2 pixels"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(changes, message):
    arguments = {"reference": np.zeros((20, 20)), "moving": np.zeros((20, 20)), **changes}
    with pytest.raises(ValueError, match=message):
        get_displacement(**arguments)


def test_all_simd_variants_give_the_same_bits(tmp_path):
    """Without contraction every variant does the same float32 operations in the same order."""
    if _simd.LEVEL == 0:
        pytest.skip("one variant on this processor")
    reference, moving, _ = pair((101, 90), n_channels=2)
    np.savez(tmp_path / "pair.npz", reference=reference, moving=moving)
    script = (
        "import sys, numpy as np; from pyflow.flow.displacement import get_displacement;"
        "from pyflow.flow.warp import imregister; from pyflow._ext._simd import LEVEL;"
        "d = np.load(sys.argv[1]); w = get_displacement(d['reference'], d['moving'], iterations=20);"
        "r = get_displacement(d['reference'], d['moving'], a_smooth=0.5, const_assumption='gray', min_level=2);"
        "c = get_displacement(d['reference'], d['moving'], const_assumption='census', iterations=20);"
        "np.savez(sys.argv[2], w=w, r=r, c=c, m=imregister(d['moving'], w), level=LEVEL)"
    )
    widest = int(
        subprocess.check_output([sys.executable, "-P", "-c", "from pyflow._ext._simd import LEVEL; print(LEVEL)"])
    )
    results = []
    for level in range(2, widest + 1):
        target = tmp_path / f"v{level}.npz"
        environment = {**os.environ, "PYFLOW_SIMD": f"v{level}"}
        subprocess.run([sys.executable, "-P", "-c", script, tmp_path / "pair.npz", target], env=environment, check=True)
        with np.load(target) as found:
            assert found["level"] == level
            results.append({name: found[name] for name in "wrcm"})
    for other in results[1:]:
        for name in "wrcm":
            np.testing.assert_array_equal(other[name], results[0][name])


def test_an_unknown_simd_variant_is_refused():
    if _simd.LEVEL == 0:
        pytest.skip("one variant on this processor")
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import pyflow._ext._simd"],
        env={**os.environ, "PYFLOW_SIMD": "v9"},
        capture_output=True,
        text=True,
    )
    assert "PYFLOW_SIMD='v9': expected auto, v2, v3 or v4" in done.stderr


# ---- the MATLAB toolbox -----------------------------------------------------------------------------------

SETTINGS = {
    "quality": {"min_level": 0},
    "balanced": {"min_level": 4},
    "strong": {"alpha": 25, "iterations": 100},
    "toolbox_defaults": {"alpha": 2, "update_lag": 10, "iterations": 20, "eta": 0.75, "a_smooth": 0.5},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("number", [1, 3])
def test_no_worse_than_the_toolbox(shared, number, name):
    with np.load(shared / "reference" / "flow_reference.npz") as data:
        images = data[f"pair{number}_f1"], data[f"pair{number}_f2"]
        truth, toolbox = data[f"pair{number}_truth"], data[f"pair{number}_w_{name}"]
    w = get_displacement(*images, **SETTINGS[name])
    assert endpoint_error(w, truth) <= endpoint_error(toolbox, truth) + 0.02
    # the same minimum: what differs is the order of updates, the resize kernel and the border
    assert endpoint_error(w, toolbox) < 0.1


TOOLBOX_FLOWS = (
    *("p1_default", "p1_of", "p1_of_min4"),
    *("p2_default", "p2_of", "p2_of_min4", "p2_of_uv", "p2_of_w73", "p2_of_wmap"),
    *("variant_geo_p3_of", "variant_geo_p3_default", "variant_psi1_p2_of"),
)


@pytest.mark.parametrize("name", TOOLBOX_FLOWS)
def test_near_the_toolbox(shared, name):
    """Whole flows differ where 50 over-relaxed sweeps have not converged: 0.1 px in the mean."""
    folder = shared / "reference" / "toolbox"
    with np.load(folder / "inputs_pairs.npz") as inputs, np.load(folder / "c_get_displacement.npz") as data:
        configs = json.loads(str(data["params_json"]))["configs"]
        key, pair_name = name.split("_", 1)[1], name.split("_", 1)[0]
        if name.startswith("variant"):
            _, _, pair_name, key = name.split("_", 3)
        weight = {"of_w73": [0.7, 0.3], "of_wmap": data["wmap"]}.get(key)
        config = configs["of" if key in ("of_w73", "of_wmap", "of_uv") else key]
        images = inputs[f"{pair_name}_fixed"], inputs[f"{pair_name}_moving"]
        truth = np.stack([inputs[f"{pair_name}_u_gt"], inputs[f"{pair_name}_v_gt"]], axis=-1)
        toolbox = data[name]
    known = {k: config[k] for k in ("update_lag", "iterations", "eta", "a_smooth", "min_level", "levels", "a_data")}
    uv = 0.5 * truth if key == "of_uv" else None
    w = get_displacement(*images, alpha=tuple(config["alpha"]), weight=weight, uv=uv, **known)
    assert endpoint_error(w, truth) <= endpoint_error(toolbox, truth) + 0.02
    if key != "of_uv":
        assert endpoint_error(w, toolbox) < 0.1
